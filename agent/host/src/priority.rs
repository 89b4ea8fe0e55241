//! The priority of the threads on which guests compute.
//!
//! In: nothing. Out: the calling thread gets a processor last, and gives it up soon. The lowest `nice` is not enough: Linux
//! lets whoever runs end its time slice before it wakes another, 3 ms by default, and a neighbour waits for that. Since Linux
//! 6.12 a thread may ask for a shorter one (`sched_setattr(2)`, `sched_runtime` of a thread that is not a real-time one);
//! older ones take the priority and leave the slice as it is.

use std::io;

/// The lowest priority that Linux knows.
pub const NICE: i32 = 19;
/// The time slice, in nanoseconds: the shortest that Linux gives.
#[cfg(target_os = "linux")]
const SLICE_NS: u64 = 100_000;

/// Lowers the calling thread.
///
/// # Errors
/// If the system refuses; the thread then keeps its priority.
#[cfg(target_os = "linux")]
pub fn lower() -> io::Result<()> {
    let wanted = attributes(SLICE_NS);
    // SAFETY: the kernel reads a structure that outlives the call, whose size is its first field. 0 is the calling thread.
    #[allow(unsafe_code)]
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) };
    if answer == 0 {
        return Ok(());
    }
    // Where a sandbox knows no such call.
    rustix::process::nice(NICE)?;
    Ok(())
}

/// Lowers the calling thread.
///
/// # Errors
/// If the system refuses; the thread then keeps its priority.
#[cfg(not(target_os = "linux"))]
pub fn lower() -> io::Result<()> {
    rustix::process::nice(NICE)?;
    Ok(())
}

#[cfg(target_os = "linux")]
fn attributes(slice_ns: u64) -> libc::sched_attr {
    let size = u32::try_from(std::mem::size_of::<libc::sched_attr>()).unwrap_or_default();
    libc::sched_attr {
        size,
        sched_policy: libc::SCHED_OTHER.unsigned_abs(),
        sched_flags: 0,
        sched_nice: NICE,
        sched_priority: 0,
        sched_runtime: slice_ns,
        sched_deadline: 0,
        sched_period: 0,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Nice and slice of the calling thread, in nanoseconds, as the kernel tells them.
    fn of_this_thread() -> (i32, u64) {
        let mut found = attributes(0);
        // SAFETY: the kernel writes at most as many bytes as it is told that there are.
        #[allow(unsafe_code)]
        let answer = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut found, found.size, 0) };
        assert_eq!(answer, 0, "{}", io::Error::last_os_error());
        (found.sched_nice, found.sched_runtime)
    }

    #[test]
    fn a_lowered_thread_comes_last_and_gives_way_soon() {
        let lowered = std::thread::spawn(|| {
            lower().unwrap();
            of_this_thread()
        });
        let lowered = lowered.join().unwrap();
        assert_eq!(lowered.0, NICE);
        // 0 is what a kernel says that knows no slices.
        assert!([0, SLICE_NS].contains(&lowered.1), "{lowered:?}");
        assert!(of_this_thread().0 < NICE);
    }
}
