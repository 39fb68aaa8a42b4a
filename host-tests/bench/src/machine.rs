//! The machine: which processors Envoy and the load have, and what Envoy has used of it. By Linux's `/proc`.

use anyhow::{Context, Result};
use std::fs;
use std::time::Duration;

/// Who runs where: Envoy has a processor to itself, everything else of the bench shares the others.
///
/// With only one processor nobody is bound to anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processors {
    envoy: usize,
    others: Vec<usize>,
}

impl Processors {
    /// Divides those that this program may use: Envoy gets the last one, because the first often serves the devices.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn divide() -> Result<Processors> {
        Ok(Processors::of(own::allowed()?))
    }

    fn of(mut allowed: Vec<usize>) -> Processors {
        let envoy = allowed.last().copied().unwrap_or_default();
        if allowed.len() > 1 {
            allowed.pop();
        }
        Processors { envoy, others: allowed }
    }

    /// Binds every thread of an Envoy, and so those that these start later.
    ///
    /// # Errors
    /// The system refuses.
    pub fn bind_envoy(&self, process: u32) -> Result<()> {
        for thread in threads(process)? {
            own::bind(Some(thread), &[self.envoy])?;
        }
        Ok(())
    }

    /// Binds the thread that calls, and so those that it starts later.
    ///
    /// # Errors
    /// The system refuses.
    pub fn bind_load(&self) -> Result<()> {
        own::bind(None, &self.others)
    }
}

/// The processor time that all threads of a process have used, in user and in system mode: `schedstat`, in
/// nanoseconds, because the ticks of `stat` are 10 ms.
///
/// # Errors
/// There is no such process, or this is not Linux.
pub fn processor_time(process: u32) -> Result<Duration> {
    threads(process)?.iter().map(|thread| used(process, *thread)).sum()
}

/// For how long the threads of a process have been ready and had no processor, because others had it, or each other.
///
/// # Errors
/// There is no such process, or this is not Linux.
pub fn waiting_time(process: u32) -> Result<Duration> {
    threads(process)?.iter().map(|thread| scheduled(process, *thread, 1)).sum()
}

/// The processor time of the threads of a process whose name begins so.
///
/// # Errors
/// There is no such process, or this is not Linux.
pub fn processor_time_of(process: u32, name: &str) -> Result<Duration> {
    let folder = format!("/proc/{process}/task");
    let named = |thread: &u32| {
        let text = fs::read_to_string(format!("{folder}/{thread}/comm")).unwrap_or_default();
        text.starts_with(name)
    };
    threads(process)?.iter().filter(|thread| named(thread)).map(|thread| used(process, *thread)).sum()
}

/// The memory that a process has, in bytes (`VmRSS`).
///
/// # Errors
/// There is no such process, or this is not Linux.
pub fn resident(process: u32) -> Result<u64> {
    status(process, "VmRSS:")
}

/// Forgets the peak of a process's memory: from now on it is what the process has.
///
/// # Errors
/// There is no such process, or this is not Linux.
pub fn reset_peak(process: u32) -> Result<()> {
    let file = format!("/proc/{process}/clear_refs");
    fs::write(&file, "5").with_context(|| format!("{file} cannot be written"))
}

/// The most memory that a process had since [`reset_peak`], in bytes (`VmHWM`).
///
/// # Errors
/// There is no such process, or this is not Linux.
pub fn peak(process: u32) -> Result<u64> {
    status(process, "VmHWM:")
}

/// A line of a process's status that is a size, in bytes.
fn status(process: u32, name: &str) -> Result<u64> {
    let file = format!("/proc/{process}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("{file} cannot be read"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kilobytes.with_context(|| format!("{file} has no {name}"))? * 1024)
}

fn used(process: u32, thread: u32) -> Result<Duration> {
    scheduled(process, thread, 0)
}

/// A time in `schedstat` of one thread: 0 is what it ran, 1 what it waited; nothing where it has ended meanwhile.
fn scheduled(process: u32, thread: u32, place: usize) -> Result<Duration> {
    let file = format!("/proc/{process}/task/{thread}/schedstat");
    let Ok(text) = fs::read_to_string(&file) else { return Ok(Duration::ZERO) };
    let found = text.split_whitespace().nth(place).and_then(|found| found.parse::<u64>().ok());
    Ok(Duration::from_nanos(found.with_context(|| format!("{file} has no number {place}"))?))
}

fn threads(process: u32) -> Result<Vec<u32>> {
    let folder = format!("/proc/{process}/task");
    let entries = fs::read_dir(&folder).with_context(|| format!("{folder} cannot be read"))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

#[cfg(target_os = "linux")]
mod own {
    use anyhow::{Context, Result};
    use rustix::process::Pid;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    pub(super) fn allowed() -> Result<Vec<usize>> {
        let set = sched_getaffinity(None).context("the processors of this program")?;
        Ok((0..CpuSet::MAX_CPU).filter(|processor| set.is_set(*processor)).collect())
    }

    /// `None`: the thread that calls.
    pub(super) fn bind(thread: Option<u32>, processors: &[usize]) -> Result<()> {
        let mut set = CpuSet::new();
        for processor in processors {
            set.set(*processor);
        }
        let pid = thread.and_then(|thread| Pid::from_raw(i32::try_from(thread).ok()?));
        sched_setaffinity(pid, &set).with_context(|| format!("no thread can be bound to {processors:?}"))
    }
}

#[cfg(not(target_os = "linux"))]
mod own {
    use anyhow::{Result, bail};

    pub(super) fn allowed() -> Result<Vec<usize>> {
        bail!("the bench measures by Linux's /proc: run it there")
    }

    pub(super) fn bind(_thread: Option<u32>, _processors: &[usize]) -> Result<()> {
        allowed().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envoy_has_a_processor_to_itself_where_there_are_two() {
        assert_eq!(Processors::of(vec![0, 1, 5]), Processors { envoy: 5, others: vec![0, 1] });
        assert_eq!(Processors::of(vec![3]), Processors { envoy: 3, others: vec![3] });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_has_used_time_and_memory() {
        let own = std::process::id();
        assert!(processor_time(own).unwrap() > Duration::ZERO);
        assert!(peak(own).unwrap() > 1 << 20);
    }
}
