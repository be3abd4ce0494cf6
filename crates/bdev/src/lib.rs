//! What one node does with one disk tree.
