//! Pauses of queues and upstreams: an optional reason and an optional end.

use bson::{DateTime, Document};
use dezky_shared::queue::pause::Pause;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    config::Config,
    error::{ApiError, FieldError},
    extract::Validate,
    validate::{self, Validator},
};

/// A new pause. All fields are optional.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = PauseCreate)]
pub(super) struct PauseRequest {
    /// Reason, for other operators and the audit trail.
    #[schema(
        min_length = 1,
        max_length = 120,
        example = "Maintenance of the mail server"
    )]
    reason: Option<String>,
    /// End, in the future: the pause ends by itself then.
    #[schema(format = DateTime)]
    until: Option<String>,
}

/// A validated new pause.
#[derive(Debug, Clone, Default)]
pub(super) struct NewPause {
    reason: Option<String>,
    until: Option<DateTime>,
}

impl Validate for NewPause {
    type Raw = PauseRequest;
    const MAY_BE_EMPTY: bool = true;

    fn validate(raw: PauseRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let reason = raw
            .reason
            .and_then(|text| validator.check("/reason", validate::name(&text)));
        let until = raw
            .until
            .and_then(|text| validator.check("/until", validate::time(&text)));
        validator.finish(Some(Self { reason, until }))
    }
}

impl NewPause {
    /// The pause to store in place of `before`. `None` if nothing changes: a pause keeps its start, and a repeated request
    /// without a reason and an end keeps those. Rejects an end that has passed.
    pub(super) fn applied_to(
        &self,
        before: Option<&Pause>,
        now: DateTime,
        by: String,
    ) -> Result<Option<Pause>, ApiError> {
        if self.until.is_some_and(|until| until <= now) {
            let error = FieldError::at("/until", "not_in_future", "Must be in the future.");
            return Err(ApiError::invalid(vec![error]));
        }
        let is_empty = self.reason.is_none() && self.until.is_none();
        if is_empty && before.is_some() {
            return Ok(None);
        }
        let start = before.cloned().unwrap_or_else(|| Pause::new(now, by));
        Ok(Some(Pause {
            reason: self.reason.clone(),
            until: self.until,
            ..start
        }))
    }
}

/// The fields that the audit trail compares.
pub(super) fn audited(pause: Option<&Pause>) -> Document {
    let mut fields = Document::new();
    if let Some(Pause {
        reason: Some(reason),
        ..
    }) = pause
    {
        fields.insert("reason", reason);
    }
    if let Some(Pause {
        until: Some(until), ..
    }) = pause
    {
        fields.insert("until", until);
    }
    fields
}
