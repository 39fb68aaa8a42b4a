//! A Kubernetes API server and its etcd: the user's own, or built from the Go modules that `host-tests/xtask/api-server` names.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::program::{Program, output};
use crate::workspace::Workspace;

/// The variable by which envtest, and the tests here, find both programs: a folder.
pub const VARIABLE: &str = "KUBEBUILDER_ASSETS";

/// Each program with the Go package that it is built from.
const PROGRAMS: [(&str, &str); 2] =
    [("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"), ("etcd", "go.etcd.io/etcd/server/v3")];

/// Maximum time of one program's build.
const MAX_BUILD: Duration = Duration::from_secs(480);

/// How often it is looked whether a build has ended.
const PAUSE: Duration = Duration::from_millis(50);

const GO_MOD: &str = include_str!("../api-server/go.mod");
const GO_SUM: &str = include_str!("../api-server/go.sum");

/// The folder that has both programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiServer {
    /// Absolute.
    pub folder: PathBuf,
    /// Where it comes from, for people.
    pub origin: &'static str,
}

/// Which one to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This one is there.
    Take(ApiServer),
    /// It is to be built, into this folder.
    Build(PathBuf),
    /// There is none, and no Go to build one: what to do.
    Impossible(String),
}

/// Finds both programs or builds them, saying which. `is_interrupted` is asked again and again while they are built: if it is, that
/// is an error, and nothing of the build is left.
pub fn ensure(workspace: &Workspace, is_interrupted: &dyn Fn() -> bool) -> Result<ApiServer> {
    let server = match find()? {
        Choice::Take(server) => server,
        Choice::Build(folder) => build(workspace, folder, is_interrupted)?,
        Choice::Impossible(why) => bail!(why),
    };
    println!("API server: {} ({})", server.folder.display(), server.origin);
    Ok(server)
}

/// Which one [`ensure`] takes; changes nothing.
pub fn find() -> Result<Choice> {
    let named = std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty());
    choose(named.as_deref(), cache(), || output(Program::new("go").arg("version")).is_ok())
}

/// The decision alone. A faulty `$KUBEBUILDER_ASSETS` is an error, because the user meant it.
fn choose(named: Option<&OsStr>, cache: Option<PathBuf>, has_go: impl FnOnce() -> bool) -> Result<Choice> {
    if let Some(named) = named {
        let folder = std::path::absolute(named).with_context(|| format!("${VARIABLE} is not a path"))?;
        if let Some(missing) = missing(&folder) {
            bail!("${VARIABLE} is {}, which has no {missing}", folder.display());
        }
        return Ok(Choice::Take(ApiServer { folder, origin: "$KUBEBUILDER_ASSETS" }));
    }
    let Some(folder) = cache else {
        return Ok(Choice::Impossible(format!(
            "neither $XDG_CACHE_HOME nor $HOME says where a built API server can be kept; set ${VARIABLE}"
        )));
    };
    if missing(&folder).is_none() {
        return Ok(Choice::Take(ApiServer { folder, origin: "built from Go modules" }));
    }
    if has_go() {
        return Ok(Choice::Build(folder));
    }
    Ok(Choice::Impossible(format!(
        "there is no API server: install Go {} or newer (https://go.dev/dl) and it is built, or set ${VARIABLE} to a folder \
         with kube-apiserver and etcd, as `setup-envtest use -p path` names one",
        go_version()
    )))
}

/// Builds both into a folder that gets its name only when they have run. Two builds at once do not disturb each other.
fn build(workspace: &Workspace, folder: PathBuf, is_interrupted: &dyn Fn() -> bool) -> Result<ApiServer> {
    let version = kubernetes_version();
    println!(
        "API server: building kube-apiserver {version} and etcd from Go modules: a few minutes, once; 130 MB in {}, and \
         up to 4 GB in Go's own caches (`go clean -cache -modcache`)",
        folder.display()
    );
    let mut part = folder.clone().into_os_string();
    part.push(format!(".{}.part", process::id()));
    let part = PathBuf::from(part);
    let result = compile(workspace, &part, version, is_interrupted).and_then(|()| {
        if missing(&folder).is_some() {
            let _ = fs::remove_dir_all(&folder);
            fs::rename(&part, &folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(())
    });
    let _ = fs::remove_dir_all(&part);
    result.with_context(|| {
        format!(
            "kube-apiserver cannot be built; it needs Go {} or newer and the Go module proxy. Or set ${VARIABLE} to a folder \
             with kube-apiserver and etcd",
            go_version()
        )
    })?;
    Ok(ApiServer { folder, origin: "built from Go modules" })
}

fn compile(
    workspace: &Workspace,
    part: &Path,
    version: &str,
    is_interrupted: &dyn Fn() -> bool,
) -> Result<()> {
    fs::create_dir_all(part).with_context(|| format!("cannot make the folder {}", part.display()))?;
    let source = workspace.root().join("host-tests/xtask/api-server");
    let log = part.join("log");
    for (name, package) in PROGRAMS {
        let flags = format!("-s -w -X k8s.io/component-base/version.gitVersion={version}");
        let binary = part.join(name);
        let mut go = Program::new("go")
            .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", &flags, "-o"])
            .arg(&binary)
            .arg(package)
            .current_dir(&source)
            .envs([("CGO_ENABLED", "0"), ("GOFLAGS", ""), ("GOWORK", "off")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("`go` cannot be run")?;
        let began = Instant::now();
        let status = loop {
            let is_late = began.elapsed() > MAX_BUILD;
            if is_late || is_interrupted() {
                go.kill()?;
                go.wait()?;
                match is_late {
                    true => bail!("the build of {name} took more than {} minutes", MAX_BUILD.as_secs() / 60),
                    false => bail!("interrupted"),
                }
            }
            match go.try_wait()? {
                Some(status) => break status,
                None => thread::sleep(PAUSE),
            }
        };
        if !status.success() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("go: downloading")).collect();
            bail!("`go build {package}` failed ({status}):\n{}", lines.join("\n"));
        }
        output(Program::new(&binary).arg("--version"))?;
    }
    fs::remove_file(&log)?;
    Ok(())
}

/// The program that a folder lacks.
fn missing(folder: &Path) -> Option<&'static str> {
    PROGRAMS.map(|(name, _)| name).into_iter().find(|name| !folder.join(name).is_file())
}

/// Where what was built is kept, by the bytes that it was built from: outside the clone, so that a fresh one has it too.
fn cache() -> Option<PathBuf> {
    Some(caches()?.join(cache_name()))
}

/// The user's cache for what these tools build or fetch once.
pub(crate) fn caches() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(caches.join("testrelay"))
}

fn cache_name() -> String {
    let digest = Sha256::new().chain_update(GO_MOD).chain_update(GO_SUM).finalize();
    let mut name = format!("api-server-{}-", kubernetes_version());
    for byte in digest.iter().take(6) {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

fn kubernetes_version() -> &'static str {
    word_after("k8s.io/kubernetes ")
}

fn go_version() -> &'static str {
    word_after("\ngo ")
}

fn word_after(text: &str) -> &'static str {
    GO_MOD.split_once(text).and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(names: &[&str], name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("xtask-api-server-{}-{name}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        names.iter().for_each(|name| fs::write(folder.join(name), "").unwrap());
        folder
    }

    #[test]
    fn versions_are_read_from_the_go_module() {
        assert!(kubernetes_version().starts_with("v1."), "{}", kubernetes_version());
        assert!(go_version().starts_with("1."), "{}", go_version());
        let name = cache_name();
        assert!(name.starts_with("api-server-v1.") && name.len() > 25, "{name}");
        let nowhere = choose(None, None, || true).unwrap();
        assert!(matches!(nowhere, Choice::Impossible(why) if why.contains(VARIABLE)));
    }

    #[test]
    fn named_programs_win_and_must_be_there() {
        let whole = folder_with(&["kube-apiserver", "etcd"], "whole");
        let half = folder_with(&["etcd"], "half");
        let choice = choose(Some(whole.as_os_str()), None, || false).unwrap();
        assert_eq!(choice, Choice::Take(ApiServer { folder: whole.clone(), origin: "$KUBEBUILDER_ASSETS" }));
        let error = choose(Some(half.as_os_str()), Some(whole.clone()), || true).unwrap_err().to_string();
        assert!(error.ends_with("which has no kube-apiserver"), "{error}");
        fs::remove_dir_all(whole).unwrap();
        fs::remove_dir_all(half).unwrap();
    }

    #[test]
    fn what_was_built_is_taken_and_what_was_not_is_built_where_there_is_go() {
        let (built, empty) = (folder_with(&["kube-apiserver", "etcd"], "built"), folder_with(&[], "empty"));
        let choice = choose(None, Some(built.clone()), || false).unwrap();
        assert!(matches!(&choice, Choice::Take(server) if server.folder == built), "{choice:?}");
        assert_eq!(choose(None, Some(empty.clone()), || true).unwrap(), Choice::Build(empty.clone()));
        let Choice::Impossible(why) = choose(None, Some(empty.clone()), || false).unwrap() else { panic!() };
        assert!(why.contains("install Go 1.") && why.contains(VARIABLE), "{why}");
        fs::remove_dir_all(built).unwrap();
        fs::remove_dir_all(empty).unwrap();
    }
}
