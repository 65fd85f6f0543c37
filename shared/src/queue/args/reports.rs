//! Arguments of the jobs that prepare reports.

use serde::{Deserialize, Serialize};

use super::declare::maintenance_job;
use crate::billing::month::Month;

/// Adds up the snapshots of the months from one on, and of earlier months that were never added up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SummarizeMonths {
    /// First month whose snapshots have changed.
    pub from: Month,
}

maintenance_job!(
    SummarizeMonths, "summarize_months", Bulk,
    lock: |_this| Some("summarize_months".to_owned()), unique: |_this| None
);

#[cfg(test)]
mod tests {
    use super::*;

    /// Pins the stored form, which outlives a deploy.
    #[test]
    fn the_stored_form_is_stable() {
        let args = SummarizeMonths {
            from: "2026-11".parse().unwrap(),
        };

        let stored = bson::serialize_to_document(&args).unwrap();

        assert_eq!(stored, bson::doc! { "from": "2026-11" });
    }
}
