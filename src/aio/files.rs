//! Whole files, read and written on tokio's blocking threads.

use super::runtime;
use crate::error::AioError;
use std::io;
use std::path::PathBuf;

pub async fn read(path: PathBuf) -> Result<io::Result<Vec<u8>>, AioError> {
    aside(move || std::fs::read(path)).await
}

/// How many bytes were written: all.
pub async fn write(path: PathBuf, data: Vec<u8>) -> Result<io::Result<usize>, AioError> {
    aside(move || std::fs::write(path, &data).map(|()| data.len())).await
}

async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<io::Result<T>, AioError> {
    runtime::spawn_blocking(work)?.await
}
