//! Native kernels, one file each. Each has a twin in pure Python in `plait.lab.workloads`
//! that gives the same result to the bit, so that compiled gain and parallel gain can be
//! told apart.

pub mod crc32;
pub mod mandelbrot;
pub mod primes;
pub mod words;
