//! Invariants of documents of a future build.

use std::{collections::BTreeSet, fs, path::Path};

use dezky_shared::queue::job::JobState;

use super::{
    super::{
        check::Check,
        fault_kind::{FaultKind, FutureDocument},
        stored::{Stored, describe},
    },
    FutureDocuments, Placed,
};

impl FutureDocuments {
    /// While the documents are stored, all jobs about others become final. `open` are those that do not.
    pub(in super::super) fn stop_nothing_else(&self, open: Vec<String>) -> Check {
        Check::new(
            "an unreadable document stops nothing else",
            self.placed.len(),
            open,
        )
    }

    /// A document of a future build is complete once it is repaired, and not before.
    pub(in super::super) fn each_is_processed_once_it_is_repaired(&self, stored: &Stored) -> Check {
        let problem = |placed: &Placed| {
            let job = stored.jobs.iter().find(|job| job.id == placed.job);
            let is_early = placed.keeps_its_job_open()
                && placed.state_before_repair.is_some_and(JobState::is_final);
            match job {
                None => Some("its job was removed".to_owned()),
                Some(job) if is_early => {
                    Some(format!("ended before it was repaired: {}", describe(job)))
                }
                Some(job) if job.state != JobState::Completed => Some(describe(job)),
                Some(_) => None,
            }
        };
        let violations = self.placed.iter().filter_map(|placed| {
            let problem = problem(placed)?;
            Some(format!("{}: {problem}", placed.name()))
        });
        Check::new(
            "a repaired document is processed, and none before",
            self.placed.len(),
            violations.collect(),
        )
    }

    /// A worker reports each document that kept a job from ending, with its id, unless no worker meets it.
    pub(in super::super) fn each_is_reported(
        &self,
        logs: &[impl AsRef<Path>],
    ) -> anyhow::Result<Check> {
        let mut reported = BTreeSet::new();
        for log in logs {
            let text = fs::read_to_string(log)?;
            let named = self.placed.iter().filter(|placed| {
                let mut ids = placed.reported_ids().into_iter();
                ids.any(|id| is_reported(&text, &id))
            });
            reported.extend(named.map(|placed| placed.job));
        }
        let was_open = |placed: &&Placed| {
            let state = placed.state_before_repair;
            state.is_some_and(|state| !state.is_final())
        };
        let is_met = |placed: &&Placed| {
            let is_hidden = matches!(placed.kind, FutureDocument::LockKey | FutureDocument::Queue);
            !is_hidden
        };
        let placed = self.placed.iter().filter(is_met);
        let open: Vec<&Placed> = placed.filter(was_open).collect();
        let silent = open.iter().filter(|placed| !reported.contains(&placed.job));
        let violations = silent.map(|placed| {
            let ids = placed.reported_ids().join(" or ");
            format!(
                "{}: no warning or error of a worker names {ids}",
                placed.name()
            )
        });
        Ok(Check::new(
            "a document of a future build is reported",
            open.len(),
            violations.collect(),
        ))
    }
}

impl Placed {
    fn name(&self) -> String {
        FaultKind::FutureDocument(self.kind).to_string()
    }

    /// Whether the job cannot end before the document is repaired.
    fn keeps_its_job_open(&self) -> bool {
        let is_readable_enough = matches!(
            self.kind,
            FutureDocument::ErrorCode | FutureDocument::Upstream | FutureDocument::User
        );
        !is_readable_enough
    }

    /// Ids that lead to the document: the job's own, or that of a job of the tenant.
    fn reported_ids(&self) -> Vec<String> {
        let job = self.job.to_string();
        match self.kind {
            FutureDocument::Tenant => vec![self.tenant.to_string(), job],
            _ => vec![job],
        }
    }
}

/// Whether a warning or an error of the log names the id.
fn is_reported(log: &str, id: &str) -> bool {
    log.lines().any(|entry| {
        let is_severe = entry.contains(" WARN ") || entry.contains(" ERROR ");
        is_severe && entry.contains(id)
    })
}
