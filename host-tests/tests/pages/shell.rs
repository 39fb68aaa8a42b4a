//! The blocks of commands in the pages: bash parses each, the files and addresses in it exist, and each runs, with
//! stand-ins for programs such as `kubectl`. `envoy::readme` runs those that need an Envoy.

use crate::page::{fenced, pages, section, text};
use crate::reference::shortest;
use crate::repository::{files, root};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use testrelay::surface::route::{Route, route};

/// Every block of bash, with its page.
fn blocks() -> Result<Vec<(String, String)>> {
    let all = blocks_of("bash")?;
    ensure!(all.len() > 15, "{}", all.len());
    Ok(all)
}

/// Every block of a language, with its page.
pub(crate) fn blocks_of(language: &str) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for page in pages()? {
        let text = std::fs::read_to_string(&page)?;
        all.extend(fenced(&text, language).into_iter().map(|block| (page.display().to_string(), block)));
    }
    Ok(all)
}

#[test]
fn bash_reads_every_block() -> Result<()> {
    for (page, block) in blocks()? {
        let read = Command::new("bash").args(["-n", "-c", &block]).output().context("bash cannot be run")?;
        ensure!(read.status.success(), "{page}: {block}{}", String::from_utf8_lossy(&read.stderr));
    }
    Ok(())
}

/// The commands of xtask: the variants of `enum Command`.
fn subcommands() -> Result<BTreeSet<String>> {
    let main = text("host-tests/xtask/src/main.rs")?;
    let (_, body) = main.split_once("enum Command {\n").context("no commands")?;
    let body = body.split("\n}").next().unwrap_or_default();
    let variants = body.lines().filter_map(|line| line.strip_prefix("    "));
    let variants = variants.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    Ok(variants.map(|line| line.trim_end_matches([' ', '{', ',']).to_lowercase()).collect())
}

#[test]
fn every_command_of_xtask_that_a_page_names_is_one() -> Result<()> {
    let known = subcommands()?;
    let mut seen = BTreeSet::new();
    for page in pages()? {
        let text = std::fs::read_to_string(&page)?;
        for rest in text.split("cargo xtask ").skip(1) {
            let name: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
            if !name.is_empty() {
                ensure!(known.contains(&name), "{}: there is no `cargo xtask {name}`", page.display());
                seen.insert(name);
            }
        }
    }
    ensure!(seen.len() > 8, "{seen:?}");
    Ok(())
}

/// Where Testrelay is asked in a block: method and path.
fn requests(block: &str) -> Vec<(&'static str, String)> {
    let lines =
        block.lines().filter(|line| line.starts_with("curl ") || line.starts_with("Invoke-WebRequest "));
    let asked = lines.filter_map(|line| {
        let host =
            ["https://testrelay.example", "localhost:8080"].into_iter().find(|host| line.contains(host))?;
        let (_, path) = line.split_once(host)?;
        let path: String = path.chars().take_while(|c| !c.is_whitespace() && !"'\"".contains(*c)).collect();
        Some((if line.contains("-X POST") { "POST" } else { "GET" }, path))
    });
    asked.collect()
}

#[test]
fn every_address_of_testrelay_that_a_block_asks_is_one() -> Result<()> {
    let config = shortest()?;
    let mut seen = 0;
    for (page, block) in blocks()?.into_iter().chain(blocks_of("powershell")?) {
        for (method, path) in requests(&block) {
            let found = route(&config, method.as_bytes(), path.as_bytes());
            // Asked to see that nobody answers.
            let is_known = !matches!(found, Route::Unknown | Route::WrongMethod(_) | Route::Blank(_));
            ensure!(is_known || path == "/v1/test-workflows", "{page}: {method} {path} is {found:?}");
            seen += 1;
        }
    }
    ensure!(seen >= 5, "{seen}");
    Ok(())
}

#[test]
fn the_files_of_the_repository_that_a_block_names_are_there() -> Result<()> {
    let mut seen = 0;
    for (page, block) in blocks()? {
        let place = block.lines().find_map(|line| line.strip_prefix("cd "));
        let folder = root().join(place.unwrap_or("."));
        ensure!(folder.is_dir(), "{page}: {block}");
        let words = block.split_whitespace();
        for word in words.filter(|word| word.starts_with("envoy/") || word.starts_with("./")) {
            let own = Path::new(&page).parent().context("no folder")?.join(word);
            ensure!(
                root().join(word).exists() || folder.join(word).exists() || own.exists(),
                "{page}: there is no {word}"
            );
            seen += 1;
        }
    }
    ensure!(seen > 5, "{seen}");
    Ok(())
}

/// How many arguments the blocks give to each script of `envoy/azure-pipelines`.
#[test]
fn the_scripts_get_as_many_arguments_as_they_want() -> Result<()> {
    let scripts = [
        ("./create-check.sh ", 4),
        ("./verify-check.sh ", 3),
        (".\\create-check.ps1 ", 4),
        (".\\verify-check.ps1 ", 3),
    ];
    let mut seen = BTreeSet::new();
    for (page, block) in blocks()?.into_iter().chain(blocks_of("powershell")?) {
        for (script, wanted) in scripts {
            for arguments in block.lines().filter_map(|line| line.strip_prefix(script)) {
                ensure!(arguments.split_whitespace().count() == wanted, "{page}: {script}{arguments}");
                seen.insert((script, page.clone()));
            }
        }
    }
    // Those in bash are in the guide and in the folder's own page, those in PowerShell only in the latter.
    ensure!(seen.len() == 6, "{seen:?}");
    Ok(())
}

/// Runs a block in a folder, with these programs doing what `script` says.
fn run(block: &str, place: &Path, programs: &[&str], script: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    for name in programs {
        executable(&folder.path().join(name), script)?;
    }
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH")?);
    let mut bash = Command::new("bash");
    bash.args(["-euc", block]).current_dir(place).env_clear().env("PATH", path);
    bash.envs([("TESTRELAY_BEARER", "bearer"), ("TESTRELAY_EVENTS", "events")]);
    let ended = bash.output()?;
    ensure!(ended.status.success(), "{block}{}", String::from_utf8_lossy(&ended.stderr));
    Ok(String::from_utf8(ended.stdout)?)
}

fn executable(file: &Path, script: &str) -> Result<()> {
    std::fs::write(file, format!("#!/bin/sh\n{script}\n"))?;
    Ok(std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))?)
}

/// The blocks that `envoy::readme` and `envoy::server` run with the real programs and files: their page, and a part of them.
const RUN_ELSEWHERE: [(&str, &str); 7] = [
    ("README.md", "cargo xtask build"),
    ("README.md", "envoy -c /etc/envoy/envoy.yaml"),
    ("envoy/README.md", "cargo xtask build"),
    ("envoy/README.md", "envoy -c /etc/envoy/envoy.yaml"),
    ("envoy/guide.md", "git fetch"),
    ("envoy/kubernetes/README.md", "sed -i"),
    ("envoy/reference.md", "fetch()"),
];

/// Each program's stand-in wants the files of the repository that it is given, and prints what any block looks for in its
/// output.
#[test]
fn every_block_runs() -> Result<()> {
    const PROGRAMS: [&str; 10] =
        ["cargo", "curl", "docker", "helm", "istioctl", "jq", "kubectl", "openssl", "skopeo", "terraform"];
    const STAND_IN: &str = "for word in \"$@\"; do case $word in envoy/*) ls -d \"$word\" > /dev/null || exit 1;; esac; done\n\
        echo 'wasm log: check 82b44d6dfb3340f7: failed: dev.azure.com proxy_on_request_headers'";
    let copy = tempfile::tempdir()?;
    for file in files(&root().join("envoy"))? {
        let to = copy.path().join(file.strip_prefix(root())?);
        std::fs::create_dir_all(to.parent().context("no folder")?)?;
        std::fs::copy(&file, to)?;
    }
    // They talk to Azure DevOps: `envoy::pipelines` runs them.
    for script in ["create-check.sh", "verify-check.sh"] {
        executable(&copy.path().join("envoy/azure-pipelines").join(script), "[ $# -ge 3 ]")?;
    }
    let mut elsewhere = 0;
    let mut seen = 0;
    for (page, block) in blocks()? {
        let name = Path::new(&page).strip_prefix(root())?.display().to_string();
        if RUN_ELSEWHERE.iter().any(|(page, part)| *page == name && block.contains(part)) {
            elsewhere += 1;
            continue;
        }
        let is_beside_its_page = block.contains("./") && !block.starts_with("cd ");
        let folder = if is_beside_its_page { Path::new(&page).parent() } else { None };
        let folder = folder.map_or(Ok(Path::new("")), |folder| folder.strip_prefix(root()))?;
        run(&block, &copy.path().join(folder), &PROGRAMS, STAND_IN).with_context(|| page)?;
        seen += 1;
    }
    ensure!(seen > 20, "{seen}");
    ensure!(elsewhere == RUN_ELSEWHERE.len(), "{elsewhere} blocks are run elsewhere");
    Ok(())
}

#[test]
fn the_command_of_the_first_week_shows_what_would_have_been_blocked() -> Result<()> {
    let page = text("envoy/operations.md")?;
    let blocks = fenced(section(&page, "## The first week")?, "bash");
    let [block] = &blocks[..] else { anyhow::bail!("{blocks:?}") };
    // As `Check::decide` writes it, behind what Envoy puts before it.
    let lines = ["failed: a", "failed (inconclusive: could not be determined): b", "failed (rejected): c"];
    let bad: Vec<String> = lines.iter().map(|line| format!("check 82b44d6dfb3340f7: {line}")).collect();
    let good = "check 82b44d6dfb3340f7: succeeded: All 2 executions failed: nothing";
    let log: Vec<String> =
        bad.iter().chain([&good.to_owned()]).map(|line| format!("[info][wasm] wasm log: {line}")).collect();
    let print = format!("cat <<'END'\n{}\nEND", log.join("\n"));
    let said = run(block, &root(), &["kubectl"], &print)?;
    assert_eq!(said.lines().collect::<Vec<_>>(), bad);
    Ok(())
}

#[test]
fn the_commands_that_take_it_away_name_what_is_there() -> Result<()> {
    let page = text("envoy/operations.md")?;
    let block = fenced(section(&page, "## Backup and uninstall")?, "bash").concat();
    let check = "for word in \"$@\"; do case $word in envoy/*) ls -d \"$word\";; esac; done";
    let said = run(&block, &root(), &["kubectl"], check)?;
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        ["envoy/testkube/webhook.yaml", "envoy/kubernetes/standalone"]
    );
    Ok(())
}
