//! Running other people's programs, with a timeout and bounded output.
