//! Processes that outlived the operation that started them.
