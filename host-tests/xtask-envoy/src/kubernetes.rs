//! `cargo xtask kubernetes`: a real API server to try things on, for a command or until Ctrl-C.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use anyhow::Result;
use host_tests::process::Process;
use kubernetes::{Account, ApiServer};
use xtask::api_server;
use xtask::workspace::Workspace;

use crate::demo::{Interrupt, Interrupted};

/// How often it is looked whether something has ended.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the command may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The namespace that is made.
    pub namespace: String,
    /// The command with its arguments; empty: none, until a signal comes.
    pub command: Vec<OsString>,
}

/// Finds or builds the programs and runs them. The exit code is the command's; after a signal 128 and its number.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let interrupt = Interrupt::on_signals()?;
    let ended = play(workspace, options, &interrupt);
    match interrupt.signal() {
        Some(signal) => {
            eprintln!("ended by signal {signal}: nothing of it runs any more");
            Ok(ExitCode::from(signal.saturating_add(128)))
        }
        None => ended,
    }
}

/// Nothing is left of it when it returns, however it does.
fn play(workspace: &Workspace, options: &Options, interrupt: &Interrupt) -> Result<ExitCode> {
    let programs = api_server::ensure(workspace, &|| interrupt.signal().is_some())?;
    let mut server = ApiServer::start(&programs.folder)?;
    let ended = serve(&mut server, options, interrupt);
    server.stop()?;
    ended
}

fn serve(server: &mut ApiServer, options: &Options, interrupt: &Interrupt) -> Result<ExitCode> {
    let account = server.account(&options.namespace)?;
    announce(server, &account, options)?;
    let Some((program, arguments)) = options.command.split_first() else {
        loop {
            interrupt.check()?;
            server.check()?;
            std::thread::sleep(PAUSE);
        }
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("KUBERNETES_URL", server.url())
        .env("KUBERNETES_CA_FILE", server.ca_file())
        .env("KUBERNETES_TOKEN_FILE", &account.token_file)
        .env("KUBERNETES_NAMESPACE", &account.namespace)
        .env("KUBECONFIG", server.kubeconfig());
    let mut command = Process::spawn(command)?;
    loop {
        if let Some(status) = command.exited()? {
            return Ok(exit_code(status));
        }
        if let Some(signal) = interrupt.signal() {
            // If it does not end, it is killed.
            let _ = command.terminate(PATIENCE);
            return Err(Interrupted(signal).into());
        }
        server.check()?;
        std::thread::sleep(PAUSE);
    }
}

fn announce(server: &ApiServer, account: &Account, options: &Options) -> Result<()> {
    let (url, ca, token) = (server.url(), server.ca_file(), account.token_file.clone());
    let namespace = &account.namespace;
    let [apiserver, etcd] = server.pids();
    let mut out = std::io::stdout().lock();
    writeln!(out, "URL         {url}")?;
    writeln!(out, "CA file     {}", ca.display())?;
    writeln!(out, "token file  {}", token.display())?;
    writeln!(out, "namespace   {namespace}")?;
    writeln!(out, "kubeconfig  {} (administrator)", server.kubeconfig().display())?;
    writeln!(out, "processes   kube-apiserver {apiserver}, etcd {etcd}")?;
    if options.command.is_empty() {
        let list = format!("{url}/api/v1/namespaces/{namespace}/secrets");
        let bearer = format!("-H \"Authorization: Bearer $(cat {})\"", token.display());
        writeln!(out, "\ncurl --cacert {} {bearer} {list}\n\nCtrl-C ends everything.", ca.display())?;
    }
    Ok(())
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let signal = || status.signal().map(|signal| signal.saturating_add(128));
    let code = status.code().or_else(signal).and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
