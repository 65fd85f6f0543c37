//! Spaces in the graph API's format.

use serde::Serialize;
use serde_json::Value;

use super::{Grant, SimSpace};

impl SimSpace {
    /// Response body of the graph API.
    pub(super) fn view(&self) -> View<'_> {
        let own_id = self.id.split('$').next_back().unwrap_or_default();
        View {
            id: &self.id,
            name: &self.name,
            drive_type: &self.drive_type,
            drive_alias: &self.alias,
            description: &self.description,
            last_modified_date_time: &self.modified,
            owner: Owner {
                user: Identity {
                    display_name: "",
                    id: own_id,
                },
            },
            quota: self.quota_view(),
            root: Root {
                id: &self.id,
                e_tag: format!("\"{}\"", self.modified),
                permissions: self.grants.iter().map(Grant::view).collect(),
                web_dav_url: format!("https://ocis.sim/dav/spaces/{}", self.id),
                deleted: self.trashed.then_some(Deleted { state: "trashed" }),
            },
            web_url: format!("https://ocis.sim/f/{}", self.id),
        }
    }

    fn quota_view(&self) -> QuotaView {
        let (total, used) = (self.quota, self.used);
        if self.trashed {
            return QuotaView {
                total,
                ..QuotaView::default()
            };
        }
        let (remaining, share) = match total {
            0 => (i64::MAX, 0),
            _ => ((total - used).max(0), used.saturating_mul(100) / total),
        };
        let state = match share {
            ..=75 => "normal",
            76..=90 => "nearing",
            91..=99 => "critical",
            _ => "exceeded",
        };
        QuotaView {
            total,
            used: Some(used),
            remaining: Some(remaining),
            state: Some(state),
        }
    }
}

/// A space in the graph API's format.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View<'a> {
    id: &'a str,
    name: &'a str,
    drive_type: &'a str,
    drive_alias: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    last_modified_date_time: &'a str,
    owner: Owner<'a>,
    quota: QuotaView,
    root: Root<'a>,
    web_url: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Owner<'a> {
    user: Identity<'a>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    display_name: &'a str,
    id: &'a str,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct QuotaView {
    total: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Root<'a> {
    id: &'a str,
    e_tag: String,
    permissions: Vec<Value>,
    web_dav_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<Deleted>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Deleted {
    state: &'static str,
}
