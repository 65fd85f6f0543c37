//! Access to applications, and the log of applications that were open to all users.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Application, Binding};
use crate::authentik::{State, User};

/// A write that left an attached application open to every user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Opening {
    /// Slug of the application.
    pub application: String,
    /// Operation that opened it, by the client's name for it: `attach_provider`.
    pub operation: String,
}

impl State {
    /// Whether the user may sign in to the application: by any of its enabled bindings, or because it has none.
    pub(super) fn admits(&self, application: &Application, user: &User) -> bool {
        let bindings = self.apps.bindings_of(application.pk);
        let mut enabled = bindings.filter(|binding| binding.enabled).peekable();
        user.is_active && (enabled.peek().is_none() || enabled.any(|binding| passes(binding, user)))
    }

    /// Logs the attached applications that `operation` left without an enabled binding.
    pub(in crate::authentik) fn log_openings(&mut self, operation: &str) {
        let apps = &mut self.apps;
        let is_open = |application: &Application| {
            let mut bindings = apps.bindings_of(application.pk);
            application.provider.is_some() && !bindings.any(|binding| binding.enabled)
        };
        let open: BTreeSet<String> = apps
            .applications
            .iter()
            .filter(|(_, application)| is_open(application))
            .map(|(slug, _)| slug.clone())
            .collect();
        let opened = open.difference(&apps.open).map(|slug| Opening {
            application: slug.clone(),
            operation: operation.to_owned(),
        });
        let opened: Vec<Opening> = opened.collect();
        apps.openings.extend(opened);
        apps.open = open;
    }

    /// All openings so far.
    pub(in crate::authentik) fn openings(&self) -> Vec<Opening> {
        self.apps.openings.clone()
    }
}

fn passes(binding: &Binding, user: &User) -> bool {
    let is_member = binding
        .group
        .is_some_and(|group| user.groups.contains(&group));
    (is_member || binding.user == Some(user.pk)) != binding.negate
}
