//! Project spaces of tenants.

use super::{
    Ocis,
    drives::{Drive, NewQuota, Update},
};
use crate::clients::{ClientError, Ensured, FailedCall, Mode};
use dezky_shared::upstream::Upstream;

/// Maximum length of a space's name, in bytes.
const NAME_LIMIT: usize = 255;

/// Project space of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Id assigned by oCIS, the only stable key of a space.
    pub id: String,
    /// Name shown to members.
    pub name: String,
}

/// Name of a tenant's space: the tenant's name without characters that oCIS forbids, or the slug if nothing remains.
pub fn space_name(tenant_name: &str, slug: &str) -> String {
    let allowed = tenant_name.replace(['/', '\\', '.', ':', '?', '*', '"', '>', '<', '|'], " ");
    let trimmed = allowed.trim();
    // The cut can leave trailing whitespace, which oCIS would trim, causing permanent drift.
    let name = trimmed[..trimmed.floor_char_boundary(NAME_LIMIT)].trim_end();
    if name.is_empty() { slug } else { name }.to_owned()
}

impl Ocis {
    /// Ensures that the tenant has exactly one space: enabled, with marker and name.
    ///
    /// The stored id takes precedence over the marker; spaces in the trash count. With `quota`, the space gets exactly
    /// that many bytes (0 is unlimited); without, oCIS decides. Several spaces with the marker are a conflict, except
    /// an empty one created by this call.
    pub async fn ensure_space(
        &self,
        tenant_id: &str,
        name: &str,
        stored_id: Option<&str>,
        quota: Option<u64>,
        mode: Mode,
    ) -> Result<Ensured<Space>, ClientError> {
        let marker = marker(tenant_id);
        let quota = quota.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        let mut changes = Vec::new();

        let mut spaces = self.spaces_of(&marker, stored_id).await?;
        if stored_id.is_some_and(|stored| spaces.iter().all(|space| space.id != stored)) {
            self.require_full_view().await?;
        }
        if spaces.is_empty() {
            changes.push("space created".to_owned());
            if mode == Mode::DryRun {
                return Ok(Ensured {
                    value: None,
                    changes,
                });
            }
            let created = self.create_space(&marker, name, quota).await?;
            spaces = self
                .settle_duplicates(&marker, created, &mut changes)
                .await?;
        }
        let space = match <[Drive; 1]>::try_from(spaces) {
            Ok([space]) => space,
            Err(spaces) => return Err(several(&marker, &spaces)),
        };

        if space.is_trashed() {
            changes.push("space restored".to_owned());
            if mode == Mode::Apply {
                self.restore_space(&space.id).await?;
            }
        }
        let update = Update {
            name: (space.name != name).then_some(name),
            drive_alias: (!space.has_marker(&marker)).then_some(marker.as_str()),
            quota: quota
                .filter(|total| space.quota.total != Some(*total))
                .map(|total| NewQuota { total }),
        };
        if !update.is_empty() {
            changes.extend(update.phrases().map(str::to_owned));
            if mode == Mode::Apply {
                self.update_space(&space.id, &update).await?;
            }
        }
        Ok(Ensured {
            value: Some(Space {
                id: space.id,
                name: match mode {
                    Mode::Apply => name.to_owned(),
                    Mode::DryRun => space.name,
                },
            }),
            changes,
        })
    }

    /// Moves the tenant's space, and any other with its marker, to the trash, from which
    /// [`ensure_space`](Self::ensure_space) restores it. The inner value is `None` if there is no space.
    pub async fn disable_space(
        &self,
        tenant_id: &str,
        stored_id: Option<&str>,
        mode: Mode,
    ) -> Result<Ensured<Option<Space>>, ClientError> {
        let spaces = self.every_space_of(&marker(tenant_id), stored_id).await?;

        let mut changes = Vec::new();
        for space in spaces.iter().filter(|space| !space.is_trashed()) {
            changes.push("space disabled".to_owned());
            if mode == Mode::Apply {
                self.trash(space).await?;
            }
        }
        let kept = spaces
            .iter()
            .find(|space| Some(space.id.as_str()) == stored_id)
            .or(spaces.first());
        Ok(Ensured {
            value: Some(kept.map(|space| Space {
                id: space.id.clone(),
                name: space.name.clone(),
            })),
            changes,
        })
    }

    /// Permanently removes every space with the tenant's marker. A stored space without the marker is a conflict.
    pub async fn purge_space(
        &self,
        tenant_id: &str,
        stored_id: Option<&str>,
        mode: Mode,
    ) -> Result<Ensured<()>, ClientError> {
        let marker = marker(tenant_id);
        let spaces = self.every_space_of(&marker, stored_id).await?;
        if let Some(foreign) = spaces.iter().find(|space| !space.has_marker(&marker)) {
            return Err(conflict(format!(
                "{} is stored for the tenant but does not carry {marker}: it was not purged",
                foreign.id
            )));
        }

        let mut changes = Vec::new();
        for space in &spaces {
            changes.push("space purged".to_owned());
            if mode == Mode::Apply {
                self.purge(space).await?;
            }
        }
        Ok(Ensured {
            value: Some(()),
            changes,
        })
    }

    /// Resolves duplicates after a create, and returns the spaces that then carry the marker.
    ///
    /// oCIS accepts a second space with the same name and alias, and an earlier create whose response was lost can land
    /// at any time. The smallest id wins; the space `made` by this call is removed if it lost and is still empty. Other
    /// spaces are not touched.
    async fn settle_duplicates(
        &self,
        marker: &str,
        made: Drive,
        changes: &mut Vec<String>,
    ) -> Result<Vec<Drive>, ClientError> {
        let mut spaces = self.spaces_of(marker, None).await?;
        let made = match spaces.iter().position(|space| space.id == made.id) {
            Some(ours) => spaces.remove(ours),
            None => made,
        };
        match spaces.first() {
            Some(kept) if kept.id < made.id && made.is_empty() => {
                self.purge(&made).await?;
                changes.push("duplicate removed".to_owned());
            }
            _ => spaces.push(made),
        }
        Ok(spaces)
    }

    /// Spaces with the marker or the stored id; an empty result is certain.
    async fn every_space_of(
        &self,
        marker: &str,
        stored_id: Option<&str>,
    ) -> Result<Vec<Drive>, ClientError> {
        let spaces = self.spaces_of(marker, stored_id).await?;
        if spaces.is_empty() {
            self.require_full_view().await?;
        }
        Ok(spaces)
    }
}

/// Marker of the tenant's space.
fn marker(tenant_id: &str) -> String {
    format!("project/{tenant_id}")
}

fn conflict(detail: String) -> ClientError {
    ClientError::Conflict(FailedCall {
        upstream: Upstream::Ocis,
        operation: "list_spaces",
        status: None,
        request_id: None,
        detail,
    })
}

fn several(marker: &str, spaces: &[Drive]) -> ClientError {
    let ids: Vec<_> = spaces.iter().map(|space| space.id.as_str()).collect();
    conflict(format!("several spaces for {marker}: {}", ids.join(", ")))
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
