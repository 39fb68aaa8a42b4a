//! The parts that all tests fall into. Each can be run alone, and needs no more than it says.

use clap::ValueEnum;

/// A part of the tests. Together they are all tests of the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Part {
    /// The core under a virtual clock, and the model of the replica protocol: no module, no Envoy. 62 s.
    Core,
    /// Pages, schema and examples against the code: no module, no Envoy. 5 s.
    Pages,
    /// The tools themselves: xtask, fakes, benches, fuzz corpora. 2 min.
    Tools,
    /// The module in a simulated Envoy: scenarios, probes, fuel, 500 histories. 1.5 min.
    World,
    /// A store's servers: the fake Kubernetes API server beside a real one, which is built once from Go modules; and real Envoys
    /// that are killed while they share checks through it. 2 min.
    Kubernetes,
    /// The module in a real Envoy. 4 min.
    Envoy,
    /// Random histories of the simulated Envoy: 4,000 fixed seeds, and 4,000 that follow from the source. 3 min.
    Histories,
    /// The tests of host-tests/expected-failures.txt: each must still fail. 2 min.
    Expected,
}

/// What a part's tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Needs {
    /// Native code alone.
    Nothing,
    /// The module.
    Module,
    /// The module in an Envoy.
    Envoy,
}

impl Part {
    /// All of them, the quickest answers first.
    pub const ALL: [Part; 8] = [
        Part::Core,
        Part::Pages,
        Part::Tools,
        Part::World,
        Part::Kubernetes,
        Part::Envoy,
        Part::Histories,
        Part::Expected,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Part::Core => "core",
            Part::Pages => "pages",
            Part::Tools => "tools",
            Part::World => "world",
            Part::Kubernetes => "kubernetes",
            Part::Envoy => "envoy",
            Part::Histories => "histories",
            Part::Expected => "expected",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Part> {
        Part::ALL.into_iter().find(|part| part.name() == name)
    }

    pub(crate) fn needs(self) -> Needs {
        match self {
            Part::Core | Part::Pages => Needs::Nothing,
            Part::World | Part::Histories => Needs::Module,
            Part::Tools | Part::Kubernetes | Part::Envoy | Part::Expected => Needs::Envoy,
        }
    }

    /// Whether a real API server is asked where one can be had.
    pub(crate) fn asks_an_api_server(self) -> bool {
        matches!(self, Part::Kubernetes)
    }

    /// Whether a browser looks at pages where one can be had.
    pub(crate) fn asks_a_browser(self) -> bool {
        matches!(self, Part::Envoy)
    }

    /// The packages and targets of its calls of `cargo test`. Empty for [`Part::Expected`], which runs tests of the others.
    pub(crate) fn calls(self) -> &'static [&'static [&'static str]] {
        match self {
            Part::Core => &[&["--package", "testrelay", "--package", "testrelay-model"]],
            Part::Pages => &[&["--package", "testrelay-host-tests", "--test", "pages"]],
            Part::Tools => &[
                &[
                    "--package",
                    "xtask",
                    "--package",
                    "xtask-envoy",
                    "--package",
                    "testrelay-bench",
                    "--package",
                    "testrelay-fakes",
                    "--package",
                    "testrelay-fuzz",
                    "--package",
                    "testrelay-plugin",
                    "--package",
                    "testrelay-scenarios",
                ],
                &["--package", "testrelay-host-tests", "--doc"],
            ],
            Part::World => &[&["--package", "testrelay-world"]],
            Part::Kubernetes => &[
                &["--package", "testrelay-kubernetes"],
                &["--package", "xtask-envoy", "--test", "kubernetes"],
            ],
            Part::Envoy => &[&["--package", "testrelay-host-tests", "--lib", "--test", "envoy"]],
            Part::Histories => &[&["--package", "testrelay-world", "--test", "histories"]],
            Part::Expected => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    fn each_package_of_the_workspace_is_in_a_part() {
        let root = Workspace::locate().unwrap().root().to_path_buf();
        let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let (_, members) = manifest.split_once("members = [").unwrap();
        let (members, _) = members.split_once(']').unwrap();
        let tested: Vec<&str> = Part::ALL.iter().flat_map(|part| part.calls().concat()).collect();
        for member in members.split(',').map(|member| member.trim().trim_matches('"')) {
            if member.is_empty() {
                continue;
            }
            let manifest = std::fs::read_to_string(root.join(member).join("Cargo.toml")).unwrap();
            let name = manifest.lines().find_map(|line| line.strip_prefix("name = ")).unwrap();
            assert!(tested.contains(&name.trim_matches('"')), "{name} is in no part");
        }
    }

    #[test]
    fn a_part_is_called_by_its_name() {
        for part in Part::ALL {
            assert_eq!(Part::named(part.name()), Some(part));
            assert_eq!(Part::from_str(part.name(), false), Ok(part));
        }
    }

    #[test]
    fn the_times_that_the_readme_shows_are_those_of_the_help() {
        let readme = std::fs::read_to_string(Workspace::locate().unwrap().root().join("README.md")).unwrap();
        let (_, table) = readme.split_once("| part       | passed |  minutes |\n|---|---|---|\n").unwrap();
        let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 2);
        for row in rows {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let (minutes, seconds) = cells[3].split_once(':').unwrap();
            let shown = minutes.parse::<u32>().unwrap() * 60 + seconds.parse::<u32>().unwrap();
            let part = Part::named(cells[1]).unwrap().to_possible_value().unwrap();
            let help = part.get_help().unwrap().to_string();
            assert!(help.trim_end_matches('.').ends_with(&format!(". {shown} s")), "{row}: {help}");
        }
    }

    #[test]
    fn what_needs_no_module_is_in_parts_that_build_none() {
        assert_eq!(Part::Core.needs(), Needs::Nothing);
        assert_eq!(Part::Pages.needs(), Needs::Nothing);
    }
}
