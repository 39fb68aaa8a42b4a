//! A single file, archive or log: which execution has it, and whether it may be downloaded.
//!
//! A file does not need the whole list. If none is remembered, Testkube is asked for the file's head; only if that
//! fails is it asked for the list, which says whether the file is missing or cannot be read.

use super::ask::{Target, Want};
use super::mask::Mask;
use super::refusals::{ambiguous, not_read};
use super::{Asked, Forward, Visit, VisitMemory};
use crate::surface::exchange::Step;
use crate::surface::problem::Reply;
use crate::text::{listed, one_line, size_in_words};
use crate::time::Now;
use crate::wire::call::Response;
use crate::wire::testkube::{self, Artifact, Execution};
use std::rc::Rc;

/// Whether an execution has the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    There,
    Missing,
    /// Unknown, both from the file's head and from the list.
    Unknown,
}

impl Visit {
    /// Asks the chosen executions for the file, one after another.
    pub(super) fn file(&mut self, now: Now, memory: &VisitMemory, name: &str) -> Step {
        while let Some(execution) = self.at(self.found.len()) {
            let presence = match memory.artifacts(now, &execution.id) {
                Some((kept, at)) => {
                    let presence = in_list(&kept, name);
                    self.oldest = self.oldest.min(at);
                    self.names += kept.len();
                    presence
                }
                None if self.is_late(now) => return Step::from(self.too_slow(self.found.len())),
                None => {
                    let (config, id) = (&self.config.testkube, &execution.id);
                    let (asked, request) = match self.by_head {
                        None => (Asked::Head, testkube::has_artifact(config, id, name)),
                        Some(_) => (Asked::Names, testkube::list_artifacts(config, id)),
                    };
                    return self.ask(asked, request);
                }
            };
            self.found.push(presence);
        }
        self.found_file(name)
    }

    /// Reads the answer to the request for a file's head. `None`: go on.
    pub(super) fn read_head(&mut self, response: &Response) -> Option<Step> {
        match response.status {
            _ if response.from_envoy => return Some(Step::from(not_read(&response.fault()))),
            200 => self.found.push(Presence::There),
            404 | 500 => self.by_head = Some(Presence::Missing),
            _ => self.by_head = Some(Presence::Unknown),
        }
        None
    }

    /// Takes the list of the execution that was last asked for the file; `None` if it is too long to be read.
    pub(super) fn read_for_file(&mut self, kept: Option<&[Artifact]>) {
        let by_head = self.by_head.take();
        let path = self.path.clone();
        let Want::File(name) = self.ask.want(&path) else { return };
        self.found.push(match kept {
            Some(kept) => {
                self.names += kept.len();
                in_list(kept, name)
            }
            None => {
                self.is_unlisted = true;
                by_head.unwrap_or(Presence::Unknown)
            }
        });
    }

    fn found_file(&self, name: &str) -> Step {
        let with = |wanted: Presence| -> Vec<&Execution> {
            let all = self.all_chosen().zip(&self.found);
            all.filter(|(_, found)| **found == wanted).map(|(execution, _)| execution).collect()
        };
        match (with(Presence::There).as_slice(), with(Presence::Unknown).as_slice()) {
            ([execution], _) => self.forward_file(execution, name),
            // Testkube's own answer says what it makes of the name.
            ([], [execution]) if self.chosen.len() == 1 => self.forward_file(execution, name),
            ([], _) => Step::from(self.no_file(name)),
            (several, _) => {
                let links = several.iter().filter_map(|execution| self.link_to_file(execution, name));
                Step::from(ambiguous(&one_line(name, 80), links.map(|link| link.to_string())))
            }
        }
    }

    fn forward_file(&self, execution: &Execution, name: &str) -> Step {
        let path = testkube::artifact_path(&self.config.testkube, &execution.id, name);
        Step::Forward(Rc::new(Forward::file(path, name)))
    }

    fn no_file(&self, name: &str) -> Reply {
        let of = listed(self.all_chosen().map(|execution| one_line(&execution.name, 80)), 5);
        let name = one_line(name, 80);
        let detail = match self.names {
            _ if self.is_unlisted => format!(
                "`{name}` is not among the artifacts of {of}, or Testkube cannot read it. There are more than can be listed."
            ),
            0 => format!("{of} kept no artifacts, or Testkube no longer has them."),
            count => {
                let links = self.links();
                let (base, parameters) = (&links.base, &links.parameters);
                format!(
                    "`{name}` is not among the {count} artifacts of {of}. They are listed at {base}{parameters}."
                )
            }
        };
        Reply::problem(404, "No such artifact", &detail)
    }

    /// The single chosen execution.
    ///
    /// # Errors
    /// The links to choose from.
    pub(super) fn only(&self, what: &str) -> Result<&Execution, Reply> {
        self.at(0).filter(|_| self.chosen.len() == 1).ok_or_else(|| {
            let choices = self.all_chosen().map(|execution| self.link(execution, what, &self.ask.masks));
            ambiguous(what, choices)
        })
    }

    /// The log is streamed as it is: Testkube's answer says whether there is one.
    pub(super) fn logs(&self) -> Step {
        match self.only("logs") {
            Ok(execution) => {
                let path = testkube::logs_path(&self.config.testkube, &execution.id);
                Step::Forward(Rc::new(Forward::logs(path, &execution.name)))
            }
            Err(reply) => Step::from(reply),
        }
    }

    /// The archive, once the list shows that it is not too large: Testkube collects all files in memory, and takes four
    /// to five times their size.
    pub(super) fn archive(&mut self, now: Now, memory: &VisitMemory) -> Step {
        if self.kept.is_empty() {
            let id = match self.only("archive") {
                Ok(execution) => &execution.id,
                Err(reply) => return Step::from(reply),
            };
            let Some((kept, at)) = memory.artifacts(now, id) else {
                let request = testkube::list_artifacts(&self.config.testkube, id);
                return self.ask(Asked::Names, request);
            };
            self.keep(kept);
            self.oldest = self.oldest.min(at);
        }
        let (execution, kept) = match (self.only("archive"), self.kept.first()) {
            (Ok(execution), kept) => (execution, kept.map(|kept| kept.as_slice()).unwrap_or_default()),
            (Err(reply), _) => return Step::from(reply),
        };
        let most = self.config.artifacts.max_archive;
        match size_of(kept, &self.ask) {
            Some(size) if size <= most => {
                let path = testkube::archive_path(&self.config.testkube, &execution.id, &self.ask.masks);
                Step::Forward(Rc::new(Forward::archive(path, &execution.name)))
            }
            size => {
                let why = match size {
                    Some(size) => format!("The files have {} in all", size_in_words(size)),
                    None => "One of the files has 2GiB or more".into(),
                };
                Step::from(self.too_large(execution, &why))
            }
        }
    }

    /// The refusal of an archive; `why` describes its files.
    pub(super) fn too_large(&self, execution: &Execution, why: &str) -> Reply {
        let detail = format!(
            "{why}; an archive may have {} (artifacts.max_archive), because Testkube collects all of it in memory. Get single files: {}. Or choose fewer with a `mask` of plain characters, `.`, `*`, `+`, `?` and `[…]`.",
            size_in_words(self.config.artifacts.max_archive),
            self.single_files(execution)
        );
        Reply::problem(413, "The archive is too large", &detail)
    }
}

fn in_list(kept: &[Artifact], name: &str) -> Presence {
    match kept.iter().any(|artifact| artifact.name == name) {
        true => Presence::There,
        false => Presence::Missing,
    }
}

/// Total size of the files in an archive, in bytes; `None` if Testkube cannot state it.
fn size_of(kept: &[Artifact], ask: &Target) -> Option<u64> {
    let masks: Option<Vec<Mask>> = ask.patterns.iter().map(|mask| Mask::read(mask)).collect();
    // Without a mask, or with one that cannot be read, all files count.
    let masks = masks.filter(|masks| !masks.is_empty());
    let is_chosen =
        |name: &str| masks.as_ref().is_none_or(|masks| masks.iter().any(|mask| mask.chooses(name)));
    let chosen = kept.iter().filter(|artifact| is_chosen(&artifact.name));
    chosen.map(|artifact| artifact.size).try_fold(0_u64, |sum, size| Some(sum.saturating_add(size?)))
}
