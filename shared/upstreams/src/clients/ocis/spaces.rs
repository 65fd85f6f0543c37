//! Project spaces of tenants, by their ids.

use super::{
    Ocis,
    drives::{Member, Quota, Space, Update},
};
use crate::clients::{ClientError, FailedCall, Mode};
use dezky_shared::{storage_report::SpaceUsage, upstream::Upstream};

/// Maximum length of a space's name, in bytes.
const NAME_LIMIT: usize = 255;
/// Operation that reads a space.
const FIND: &str = "find_space";
/// Prefix of a marker, followed by the tenant's id.
const MARKER: &str = "project/";

/// Name of a tenant's space: the tenant's name without characters that oCIS forbids, or the slug if nothing remains.
pub fn space_name(tenant_name: &str, slug: &str) -> String {
    let allowed = tenant_name.replace(['/', '\\', '.', ':', '?', '*', '"', '>', '<', '|'], " ");
    let trimmed = allowed.trim();
    // The cut can leave trailing whitespace, which oCIS would trim, causing permanent drift.
    let name = trimmed[..trimmed.floor_char_boundary(NAME_LIMIT)].trim_end();
    if name.is_empty() { slug } else { name }.to_owned()
}

/// The tenant id in the alias of a space, if it is a marker or looks like one. Members of a space may change its alias, so
/// this does not prove that the space is the tenant's.
pub fn marked_tenant(alias: &str) -> Option<&str> {
    alias.strip_prefix(MARKER)
}

fn marker(tenant_id: &str) -> String {
    format!("{MARKER}{tenant_id}")
}

impl Ocis {
    /// The space with this id, enabled or in the trash; `None` if it does not exist.
    ///
    /// A negative quota hides a space from every read until a valid one is set, so a space counts as gone only if its
    /// quota, in bytes, cannot be set either. A dry run does not set it, and reports a hidden space as gone. An id of
    /// something else than a project space is a conflict.
    pub async fn find_space(
        &self,
        id: &str,
        quota: u64,
        mode: Mode,
    ) -> Result<Option<Space>, ClientError> {
        let mut space = self.get_space(id).await?;
        if space.is_none() && mode == Mode::Apply {
            let update = Update {
                quota: Some(Quota::of_bytes(quota)),
                ..Update::default()
            };
            space = self.patch_space(id, &update).await?;
        }
        match space {
            Some(space) if space.is_project() => Ok(Some(space)),
            Some(other) => Err(conflict(format!("{} is no project space", other.id))),
            None => {
                self.require_full_view().await?;
                Ok(None)
            }
        }
    }

    /// Usage of the space with this id. `None` if there is no such project space, or if it is invisible.
    pub async fn find_usage(&self, id: &str) -> Result<Option<SpaceUsage>, ClientError> {
        let space = self.get_space(id).await?;
        Ok(space.filter(Space::is_project).map(|space| space.usage()))
    }

    /// Spaces that an earlier create for this tenant may have left: those with its marker, including those in the trash,
    /// by id. Empty if there are certainly none.
    ///
    /// A space with the marker that our account did not create, or that has other members, is a conflict that names all
    /// spaces found: a member may have set the marker.
    pub async fn find_unrecorded_spaces(&self, tenant_id: &str) -> Result<Vec<Space>, ClientError> {
        let marker = marker(tenant_id);
        let ids = self.search_marker(&marker).await?;
        if ids.is_empty() {
            self.require_full_view().await?;
            return Ok(Vec::new());
        }
        let account = self.account_id().await?;
        let mut spaces = Vec::new();
        for id in &ids {
            spaces.extend(self.get_space(id).await?);
        }
        match spaces.iter().find(|space| !space.is_unshared(account)) {
            None => Ok(spaces),
            Some(foreign) => Err(conflict(format!(
                "{} carries {marker}, but has members beside our account or was not created by it; found with that \
                 marker: {}",
                foreign.id,
                ids.join(", ")
            ))),
        }
    }

    /// Creates the tenant's space with a quota in bytes; 0 is unlimited. oCIS accepts any number of spaces of one name
    /// and marker, so a create must not be repeated before its outcome is known.
    pub async fn create_space(
        &self,
        tenant_id: &str,
        name: &str,
        quota: u64,
    ) -> Result<Space, ClientError> {
        self.post_space(&marker(tenant_id), name, Quota::of_bytes(quota))
            .await
    }

    /// Brings a space to the state of an active tenant's: enabled, with marker, name and quota in bytes (0 is
    /// unlimited), and with our account as its only manager, since a manager could restore and purge it. Returns the
    /// changes.
    ///
    /// A space of which our account is no manager is a conflict: it may not demote the others.
    pub async fn ensure_space(
        &self,
        space: &Space,
        tenant_id: &str,
        name: &str,
        quota: u64,
        mode: Mode,
    ) -> Result<Vec<String>, ClientError> {
        let mut changes = Vec::new();
        if space.is_trashed() {
            changes.push("space restored".to_owned());
            if mode == Mode::Apply {
                self.restore(&space.id).await?;
            }
        }
        let (marker, quota) = (marker(tenant_id), Quota::of_bytes(quota));
        let update = Update {
            name: (space.name != name).then_some(name),
            drive_alias: (!space.has_marker(&marker)).then_some(marker.as_str()),
            quota: (!quota.is_of(space)).then_some(quota),
        };
        let differing: Vec<String> = update.phrases().map(str::to_owned).collect();
        if !differing.is_empty() && mode == Mode::Apply {
            let updated = self.patch_space(&space.id, &update).await?;
            updated.ok_or_else(|| vanished(space))?;
        }
        changes.extend(differing);
        let managers = self.managers_to_demote(space).await?;
        self.demote(space, &managers, mode, &mut changes).await?;
        Ok(changes)
    }

    /// Moves a space to the trash, from which [`ensure_space`](Self::ensure_space) restores it. Returns the changes.
    ///
    /// A space of which our account is no manager is a conflict, in the trash too: its managers could restore it.
    pub async fn disable_space(
        &self,
        space: &Space,
        mode: Mode,
    ) -> Result<Vec<String>, ClientError> {
        let mut changes = Vec::new();
        let managers = match self.managers_to_demote(space).await {
            Err(error) if !matches!(error, ClientError::Conflict(_)) => return Err(error),
            managers => managers,
        };
        if !space.is_trashed() {
            // Members of a space in the trash cannot be changed, and a manager could restore it.
            if let Ok(managers) = &managers {
                self.demote(space, managers, mode, &mut changes).await?;
            }
            changes.push("space disabled".to_owned());
            if mode == Mode::Apply {
                self.trash(space).await?;
            }
        }
        managers.map(|_| changes)
    }

    /// Permanently removes a space. Returns the changes.
    pub async fn purge_space(&self, space: &Space, mode: Mode) -> Result<Vec<String>, ClientError> {
        if mode == Mode::Apply {
            self.purge(space).await?;
        }
        Ok(vec!["space purged".to_owned()])
    }

    /// Purges a space that this step has created, if it is still empty. False if it is not.
    pub async fn withdraw_space(&self, created: &Space) -> Result<bool, ClientError> {
        match self.get_space(&created.id).await? {
            Some(space) if space.is_empty() => self.purge(&space).await.map(|()| true),
            _ => Ok(false),
        }
    }

    /// Managers of the space beside our account; a conflict if that is no manager itself. None if the server lists no
    /// managers.
    async fn managers_to_demote<'a>(
        &self,
        space: &'a Space,
    ) -> Result<Vec<&'a Member>, ClientError> {
        if space.managers().next().is_none() {
            return Ok(Vec::new());
        }
        let account = self.account_id().await?;
        space.managers_beside(account).ok_or_else(|| {
            conflict(format!(
                "our account is no manager of {}, so its managers could restore or purge it: make our account a manager",
                space.id
            ))
        })
    }

    /// Makes these managers editors.
    async fn demote(
        &self,
        space: &Space,
        managers: &[&Member],
        mode: Mode,
        changes: &mut Vec<String>,
    ) -> Result<(), ClientError> {
        for manager in managers {
            changes.push("manager made an editor".to_owned());
            if mode == Mode::Apply {
                self.make_editor(&space.id, manager).await?;
            }
        }
        Ok(())
    }
}

fn conflict(detail: String) -> ClientError {
    ClientError::Conflict(failed(FIND, detail))
}

fn vanished(space: &Space) -> ClientError {
    let detail = format!(
        "{} was deleted meanwhile, or our account lacks a permission",
        space.id
    );
    ClientError::Permission(failed(FIND, detail))
}

/// Description of a failure that is not tied to a single response.
pub(super) fn failed(operation: &'static str, detail: String) -> FailedCall {
    FailedCall {
        upstream: Upstream::Ocis,
        operation,
        status: None,
        request_id: None,
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_characters_of_a_space_name_become_spaces() {
        assert_eq!(space_name("acme.example", "acme"), "acme example");
        assert_eq!(
            space_name(r#"a/b\c.d:e?f*g"h>i<j|k"#, "acme"),
            "a b c d e f g h i j k"
        );
        assert_eq!(space_name(" Müller & Söhne. ", "acme"), "Müller & Söhne");
    }

    #[test]
    fn a_name_of_only_forbidden_characters_is_replaced_by_the_slug() {
        assert_eq!(space_name("...", "acme"), "acme");
        assert_eq!(space_name("", "acme"), "acme");
    }

    #[test]
    fn a_long_name_is_cut_between_characters_and_trimmed_again() {
        let umlauts = "ä".repeat(200);
        let blank_at_the_cut = format!("{} {}", "x".repeat(254), "y".repeat(10));

        assert_eq!(space_name(&umlauts, "acme"), "ä".repeat(127));
        assert_eq!(space_name(&blank_at_the_cut, "acme"), "x".repeat(254));
    }

    #[test]
    fn the_space_name_is_idempotent() {
        let name = space_name(&format!("{}. ", "é.".repeat(150)), "acme");

        assert_eq!(space_name(&name, "acme"), name);
    }
}
