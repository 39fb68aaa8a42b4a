//! An agent: it runs scripts with a folder and an environment, and nothing else from the test.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An agent with a folder of its own.
pub(super) struct Agent {
    folder: tempfile::TempDir,
    /// The variables that every script gets.
    pub(super) environment: BTreeMap<String, String>,
}

/// How a script ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// Standard output and, after it, standard error.
    pub(crate) said: String,
}

impl Agent {
    pub(super) fn new() -> Result<Agent> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        std::fs::create_dir(folder.path().join("bin"))?;
        let path = std::env::var("PATH")?;
        let mut environment = BTreeMap::new();
        environment.insert("PATH".into(), format!("{}:{path}", folder.path().join("bin").display()));
        environment.insert("HOME".into(), folder.path().display().to_string());
        Ok(Agent { folder, environment })
    }

    /// The agent's folder.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a program on the PATH.
    pub(super) fn program(&self, name: &str, script: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let file = self.folder().join("bin").join(name);
        std::fs::write(&file, script)?;
        Ok(std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))?)
    }

    /// Runs a step's script in a folder, as the task Bash does.
    pub(super) fn bash(&self, folder: &Path, script: &str) -> Result<Ended> {
        self.run(Command::new("bash").args(["--noprofile", "--norc", "-c", script]).current_dir(folder))
    }

    /// Runs a script file with arguments.
    pub(super) fn script(&self, file: &Path, arguments: &[&str]) -> Result<Ended> {
        self.run(Command::new("bash").arg(file).args(arguments).current_dir(self.folder()))
    }

    /// Runs git, which must succeed, and says its output.
    pub(super) fn git(&self, folder: &Path, arguments: &[&str]) -> Result<String> {
        let ended = self.run(Command::new("git").args(arguments).current_dir(folder))?;
        anyhow::ensure!(ended.code == Some(0), "git {arguments:?}: {}", ended.said);
        Ok(ended.said)
    }

    fn run(&self, command: &mut Command) -> Result<Ended> {
        let output = command
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{command:?} cannot be run"))?;
        let said = [output.stdout, output.stderr].concat();
        Ok(Ended { code: output.status.code(), said: String::from_utf8_lossy(&said).into_owned() })
    }
}

/// Every file below a folder, by its path within it.
pub(super) fn files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(inner) = folders.pop() {
        for entry in std::fs::read_dir(folder.join(&inner))? {
            let path = inner.join(entry?.file_name());
            match folder.join(&path).is_dir() {
                true => folders.push(path),
                false => {
                    let bytes = std::fs::read(folder.join(&path))?;
                    found.insert(path.display().to_string(), bytes);
                }
            }
        }
    }
    Ok(found)
}
