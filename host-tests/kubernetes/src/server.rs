//! One kube-apiserver with its etcd.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fakes::{Identity, Request};
use host_tests::process::Process;
use rustix::process::Signal;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::Client;

/// Two seconds, where the machine has nothing else to do.
const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(30);
/// Lines of each log in an error.
const TAIL: usize = 15;

/// Its addresses in its folder, where nobody else reaches it. etcd wants them to look like host and port.
const ETCD: &str = "unix://etcd:1";
const ETCD_PEER: &str = "unix://peer:1";

/// A running API server. Dropping it kills both processes; they end with the program too, however that ends.
#[derive(Debug)]
pub struct ApiServer {
    // In this order: etcd must outlive whoever writes to it, and their folder both.
    apiserver: Process,
    etcd: Process,
    directory: TempDir,
    address: SocketAddr,
    authority: String,
    administrator: String,
    /// Keeps the port: the API server shares it, so that nobody takes it in between.
    _port: Socket,
}

impl ApiServer {
    /// Starts both programs of a folder and waits until the API server is ready.
    ///
    /// # Errors
    /// A program ends, or is not ready in two minutes: with the ends of both logs.
    pub fn start(programs: &Path) -> Result<ApiServer> {
        let directory = TempDir::with_prefix("testrelay-kubernetes-")?;
        let path = directory.path();
        let identity = Identity::for_names(&["kubernetes.default.svc", "localhost", "127.0.0.1"])?;
        let administrator = random()?;
        for (name, text) in [
            ("ca.crt", identity.ca_pem()),
            ("tls.crt", identity.certificate_pem()),
            ("tls.key", identity.key_pem()),
            ("tokens", &format!("{administrator},administrator,administrator,system:masters")),
        ] {
            fs::write(path.join(name), text)?;
        }
        let (port, address) = port()?;
        let etcd = Process::spawn(etcd(programs, path)?)?;
        let apiserver = Process::spawn(apiserver(programs, path, address)?)?;
        let authority = identity.ca_pem().to_owned();
        let mut server =
            ApiServer { apiserver, etcd, directory, address, authority, administrator, _port: port };
        server.write_kubeconfig()?;
        match server.wait_until_ready() {
            Ok(()) => Ok(server),
            Err(error) => bail!("{error:#}; {}", server.last_words()),
        }
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of the authority that signed the server's, as PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The file that has it.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// A configuration for kubectl, as the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// The process ids of kube-apiserver and etcd.
    pub fn pids(&self) -> [u32; 2] {
        [self.apiserver.id(), self.etcd.id()]
    }

    /// Asks with a token, or as nobody.
    pub fn client(&self, token: Option<&str>) -> Result<Client> {
        Client::new(&self.url(), &self.authority, token)
    }

    /// Asks as somebody who may do everything.
    pub fn administrator(&self) -> Result<Client> {
        self.client(Some(&self.administrator))
    }

    /// The API server answers nothing until it is let go on; connections to it are still made.
    pub fn pause(&self) -> Result<()> {
        self.apiserver.signal(Signal::STOP)
    }

    /// The API server goes on.
    pub fn resume(&self) -> Result<()> {
        self.apiserver.signal(Signal::CONT)
    }

    /// etcd answers nothing until it is let go on.
    pub fn pause_etcd(&self) -> Result<()> {
        self.etcd.signal(Signal::STOP)
    }

    /// etcd goes on.
    pub fn resume_etcd(&self) -> Result<()> {
        self.etcd.signal(Signal::CONT)
    }

    /// Both processes still run.
    pub fn check(&mut self) -> Result<()> {
        for (name, process) in [("kube-apiserver", &mut self.apiserver), ("etcd", &mut self.etcd)] {
            if let Some(status) = process.exited()? {
                bail!("{name} has ended with {status}");
            }
        }
        Ok(())
    }

    /// Asks both to end, the API server first, and waits until they have.
    pub fn stop(mut self) -> Result<()> {
        self.check()?;
        self.apiserver.terminate(STOP)?;
        self.etcd.terminate(STOP)?;
        Ok(())
    }

    /// Writes a file beside the others, for the user alone.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    fn write_kubeconfig(&self) -> Result<()> {
        let name = "testrelay";
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": self.url(), "certificate-authority": self.ca_file()}}],
            "users": [{"name": name, "user": {"token": self.administrator}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        });
        self.write("kubeconfig", &config.to_string()).map(drop)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let client = self.administrator()?;
        let end = Instant::now() + START;
        loop {
            self.check()?;
            if client.ask(&Request::new("GET", "/readyz")).is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("the API server was not ready after {START:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn last_words(&self) -> String {
        let tail = |name: &str| {
            let log = fs::read(self.directory.path().join(name)).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).into_owned();
            let lines: Vec<&str> = log.lines().collect();
            lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n")
        };
        format!(
            "the end of kube-apiserver's log:\n{}\nand of etcd's:\n{}",
            tail("kube-apiserver.log"),
            tail("etcd.log")
        )
    }
}

fn etcd(programs: &Path, directory: &Path) -> Result<Command> {
    let mut command = command(programs, "etcd", directory)?;
    command
        .args(["--data-dir", "data", "--listen-client-urls", ETCD, "--advertise-client-urls", ETCD])
        .args(["--listen-peer-urls", ETCD_PEER, "--initial-advertise-peer-urls", ETCD_PEER])
        .args(["--initial-cluster", &format!("default={ETCD_PEER}")])
        // Nothing is to survive a power cut.
        .arg("--unsafe-no-fsync");
    Ok(command)
}

fn apiserver(programs: &Path, directory: &Path, address: SocketAddr) -> Result<Command> {
    let mut command = command(programs, "kube-apiserver", directory)?;
    command
        .arg(format!("--etcd-servers={ETCD}"))
        .arg(format!("--secure-port={}", address.port()))
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--permit-port-sharing"])
        .args(["--tls-cert-file=tls.crt", "--tls-private-key-file=tls.key"])
        .arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local")
        .args(["--service-account-key-file=tls.crt", "--service-account-signing-key-file=tls.key"])
        .args(["--token-auth-file=tokens", "--authorization-mode=RBAC"])
        .args(["--service-cluster-ip-range=10.0.0.0/24", "--endpoint-reconciler-type=none"]);
    Ok(command)
}

/// Started in the folder, with its output in a file there and nothing of the caller's environment. In a process group of its
/// own: Ctrl-C in a terminal is the caller's to act on.
fn command(programs: &Path, name: &str, directory: &Path) -> Result<Command> {
    let log = File::create(directory.join(format!("{name}.log")))?;
    let mut command = Command::new(programs.join(name));
    command.current_dir(directory).env_clear().process_group(0);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

/// A port that the system gives, and the socket that keeps it.
fn port() -> Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?.as_socket().context("the socket has no address")?;
    Ok((socket, address))
}

/// A token that nobody guesses.
fn random() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
