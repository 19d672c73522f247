//! Synchronization for threads, coroutines and Rust tasks at once.

pub mod queue;
