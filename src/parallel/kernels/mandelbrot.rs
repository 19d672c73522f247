//! Escape times of the Mandelbrot set, a row a task.
//!
//! The region is x in [-2, 1), y in [-1.5, 1.5), sampled at each pixel's corner. Every
//! operation is one IEEE 754 double operation in the order that the Python twin has it
//! (Rust never contracts to fused multiply-add), so both agree to the bit.

use crate::parallel::pool::Cancel;
use rayon::prelude::*;

fn escape_time(x0: f64, y0: f64, max_iter: u32) -> u32 {
    let (mut x, mut y) = (0.0_f64, 0.0_f64);
    for step in 0..max_iter {
        let (xx, yy) = (x * x, y * y);
        if xx + yy > 4.0 {
            return step;
        }
        y = 2.0 * x * y + y0;
        x = xx - yy + x0;
    }
    max_iter
}

/// Bytes a pixel: the image is uint32 in the machine's own byte order.
pub const PIXEL: usize = size_of::<u32>();

/// Fills `image` (row-major, `width` pixels a row) with each pixel's number of steps until
/// |z| > 2, at most `max_iter`.
pub fn render(image: &mut [u8], width: usize, height: usize, max_iter: u32, cancel: &Cancel) {
    image.par_chunks_exact_mut(width * PIXEL).enumerate().for_each(|(row, pixels)| {
        if cancel.is_set() {
            return;
        }
        let y0 = -1.5 + 3.0 * row as f64 / height as f64;
        for (column, pixel) in pixels.as_chunks_mut::<PIXEL>().0.iter_mut().enumerate() {
            let x0 = -2.0 + 3.0 * column as f64 / width as f64;
            *pixel = escape_time(x0, y0, max_iter).to_ne_bytes();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_never_escapes_and_a_far_corner_does_at_once() {
        assert_eq!(escape_time(0.0, 0.0, 500), 500);
        assert_eq!(escape_time(-2.0, -1.5, 500), 1);
    }

    #[test]
    fn rows_are_the_same_however_many_threads_there_are() {
        let cancel = Cancel::default();
        let mut whole = vec![0; 64 * 48 * PIXEL];
        render(&mut whole, 64, 48, 100, &cancel);
        let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let mut alone = vec![0; 64 * 48 * PIXEL];
        single.install(|| render(&mut alone, 64, 48, 100, &cancel));
        assert_eq!(whole, alone);
    }
}
