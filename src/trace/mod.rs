//! What each thread of this process did, as `plait.lab.trace` draws it.
//!
//! - `sampler`: a thread that looks at the others a thousand times a second;
//! - `verdict`: what a thread's CPU clock and its system call say it did since the last look;
//! - `proc`: the kernel's files about a thread; `clock`: its clocks;
//! - `gil`: who holds the GIL; `runtime`: where in the interpreter's memory that is written;
//! - `tape`: where all that is noted, per-thread blocks of one bounded ring in a file, so that
//!   what a killed process noted is there too;
//! - `steps_face`: steps of asyncio's tasks are noted there;
//! - `tasks`: process pools note which task was submitted and begun where;
//! - `waits`: plait's own locks note who waited for which of them, and who had it.

#[cfg(target_os = "linux")]
pub mod clock;
#[cfg(target_os = "linux")]
pub mod gil;
#[cfg(target_os = "linux")]
pub mod proc;
#[cfg(target_os = "linux")]
pub mod sampler;
#[cfg(target_os = "linux")]
pub mod tape;
#[cfg(target_os = "linux")]
pub mod tasks;
#[cfg(target_os = "linux")]
pub mod verdict;
pub mod waits;

#[cfg(all(feature = "python", target_os = "linux"))]
pub mod face;
#[cfg(all(feature = "python", target_os = "linux"))]
pub mod runtime;
#[cfg(all(feature = "python", target_os = "linux"))]
pub mod steps_face;
