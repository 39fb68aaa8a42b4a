//! One child process that never outlives the test program, however that ends.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// A running child. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it. It is killed when this program ends, however that ends.
    pub fn spawn(command: Command) -> Result<Process> {
        let program = command.get_program().to_owned();
        let child = spawn_from_lasting_thread(command)?;
        Ok(Process { child: child.with_context(|| format!("starting {}", program.to_string_lossy()))? })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `None` while it runs.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        crate::wait_for("the end of the process after SIGTERM", patience, || self.exited().transpose())?
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where the process has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Linux binds "end with the parent" to the *thread* that started the child. A test's thread ends before a process that
/// several tests share, so one thread that lives as long as the program starts all of them.
fn spawn_from_lasting_thread(mut command: Command) -> Result<io::Result<Child>> {
    type Order = Box<dyn FnOnce() + Send>;
    static ORDERS: OnceLock<Sender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (sender, receiver) = channel::<Order>();
        std::thread::spawn(move || receiver.into_iter().for_each(|order| order()));
        sender
    });
    end_with_parent(&mut command);
    let (sender, receiver) = channel();
    let order = Box::new(move || drop(sender.send(command.spawn())));
    if orders.send(order).is_err() {
        bail!("the thread that starts processes has ended");
    }
    receiver.recv().context("the thread that starts processes has ended")
}

#[cfg(target_os = "linux")]
fn end_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec only this one system call is made; it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
    }
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent(_command: &mut Command) {}
