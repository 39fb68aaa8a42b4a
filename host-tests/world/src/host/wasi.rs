//! WASI as Envoy has it: clocks, environment, randomness, standard output.

use super::{Host, OK, begin, read, write, write_u32};
use wasmtime::{Caller, Linker, Result};

const EINVAL: u32 = 28;
const EBADF: u32 = 8;
const EFAULT: u32 = 21;
const ENOTSUP: u32 = 58;

const MODULE: &str = "wasi_snapshot_preview1";

/// proxy-wasm-cpp-host `limits.h`.
const MAX_RANDOM: u32 = 64 << 10;

pub(super) fn link(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(MODULE, "clock_time_get", clock_time_get)?;
    linker.func_wrap(MODULE, "random_get", random_get)?;
    linker.func_wrap(MODULE, "environ_get", environ_get)?;
    linker.func_wrap(MODULE, "environ_sizes_get", environ_sizes_get)?;
    linker.func_wrap(MODULE, "fd_write", fd_write)?;
    linker.func_wrap(MODULE, "proc_exit", proc_exit)?;
    Ok(())
}

/// 0 is the wall clock, which can be set; 1 is the monotonic clock, the same for all VMs of the process.
fn clock_time_get(mut caller: Caller<'_, Host>, clock: u32, _precision: u64, at: u32) -> Result<u32> {
    begin(&mut caller, "clock_time_get")?;
    let nanoseconds = match clock {
        0 => caller.data().state.borrow().wall_nanoseconds(),
        1 => caller.data().state.borrow().monotonic() * 1_000,
        _ => return Ok(ENOTSUP),
    };
    Ok(if write(&mut caller, at, &nanoseconds.to_le_bytes()) == OK { OK } else { EFAULT })
}

fn random_get(mut caller: Caller<'_, Host>, at: u32, size: u32) -> Result<u32> {
    begin(&mut caller, "random_get")?;
    if size > MAX_RANDOM {
        return Ok(EINVAL);
    }
    let bytes = caller.data().state.borrow_mut().random_bytes(size as usize);
    Ok(if write(&mut caller, at, &bytes) == OK { OK } else { EFAULT })
}

fn environ_sizes_get(mut caller: Caller<'_, Host>, count: u32, size: u32) -> Result<u32> {
    begin(&mut caller, "environ_sizes_get")?;
    let environment = caller.data().environment.clone();
    let bytes: usize = environment.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let written = write_u32(&mut caller, count, number(environment.len()));
    Ok(if written.max(write_u32(&mut caller, size, number(bytes))) == OK { OK } else { EFAULT })
}

fn environ_get(mut caller: Caller<'_, Host>, pointers: u32, buffer: u32) -> Result<u32> {
    begin(&mut caller, "environ_get")?;
    let environment = caller.data().environment.clone();
    let (mut pointer, mut at, mut written) = (pointers, buffer, OK);
    for (name, value) in environment.iter() {
        let entry = format!("{name}={value}\0");
        written =
            written.max(write_u32(&mut caller, pointer, at)).max(write(&mut caller, at, entry.as_bytes()));
        pointer = pointer.wrapping_add(4);
        at = at.wrapping_add(u32::try_from(entry.len()).unwrap_or(u32::MAX));
    }
    Ok(if written == OK { OK } else { EFAULT })
}

/// Standard output is logged as info, standard error as error.
fn fd_write(mut caller: Caller<'_, Host>, fd: u32, vectors: u32, count: u32, size: u32) -> Result<u32> {
    begin(&mut caller, "fd_write")?;
    let level = match fd {
        1 => 2,
        2 => 4,
        _ => return Ok(EBADF),
    };
    let mut text = Vec::new();
    for i in 0..count {
        let Some(vector) = read(&caller, vectors.wrapping_add(i.wrapping_mul(8)), 8) else {
            return Ok(EFAULT);
        };
        let number = |at: usize| {
            let bytes: Option<[u8; 4]> = vector.get(at..at + 4).and_then(|b| b.try_into().ok());
            u32::from_le_bytes(bytes.unwrap_or_default())
        };
        match read(&caller, number(0), number(4)) {
            Some(part) => text.extend(part),
            None => return Ok(EFAULT),
        }
    }
    let host = caller.data();
    host.state.borrow_mut().logged(host.thread, level, &String::from_utf8_lossy(&text));
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    Ok(if write_u32(&mut caller, size, length) == OK { OK } else { EFAULT })
}

/// Envoy only logs it; the code after it is unreachable, so a Rust module traps there.
fn proc_exit(mut caller: Caller<'_, Host>, code: u32) -> Result<()> {
    begin(&mut caller, "proc_exit")?;
    let host = caller.data();
    host.state.borrow_mut().logged(host.thread, 4, &format!("wasi proc_exit called with {code}"));
    Ok(())
}
