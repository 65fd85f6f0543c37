//! Commands in a group commit: several commands of different requests in one transaction.

use dezky_shared::{
    store::{StoreError, group_commit::Inserts, idempotency::IdempotencyKey},
    tenant::Tenant,
};

use super::{
    command::{Command, CommandOutput, CommandRunner},
    idempotency,
};
use crate::{
    error::ApiError,
    extract::{Caller, IfMatch, Prefer, RequestInfo},
    state::AppState,
};

/// The request of a command, detached from its connection, so that a task of its own can run the command.
#[derive(Debug)]
pub struct DetachedRequest {
    caller: Caller,
    request: RequestInfo,
    if_match: IfMatch,
    prefer: Prefer,
    key: Option<IdempotencyKey>,
    tenant: Tenant,
}

impl DetachedRequest {
    /// The request of `runner`, about `tenant` as its caller's permissions were checked.
    pub fn new(runner: &CommandRunner<'_>, tenant: &Tenant) -> Self {
        Self {
            caller: runner.caller.clone(),
            request: runner.request.clone(),
            if_match: runner.if_match.clone(),
            prefer: runner.prefer,
            key: runner.key.cloned(),
            tenant: tenant.clone(),
        }
    }

    /// A runner of the request's command. It holds no keyed mutex.
    pub fn runner<'a>(&'a self, app: &'a AppState) -> CommandRunner<'a> {
        CommandRunner {
            app,
            caller: &self.caller,
            request: &self.request,
            if_match: &self.if_match,
            prefer: self.prefer,
            key: self.key.as_ref(),
            tenant: Some(&self.tenant),
            guard: None,
        }
    }

    /// Whether the request has an idempotency key.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Checks the permissions again, because the request waited.
    pub async fn recheck_permissions(&self, app: &AppState) -> Result<(), ApiError> {
        let tenant = Some(&self.tenant);
        self.caller.recheck_permissions(&app.access, tenant).await
    }
}

impl CommandRunner<'_> {
    /// Commits `command` together with those that wait at the same time. `None` if it needs a transaction of its own,
    /// because it depends on stored documents or because a document of the group was refused.
    pub(super) async fn run_in_group(
        &self,
        command: &impl Command,
    ) -> Result<Option<CommandOutput>, ApiError> {
        let mut inserts = Inserts::default();
        let Some(mut output) = command.insert_in_group(&mut inserts, self)? else {
            return Ok(None);
        };
        // Before it queues, which takes no longer than permissions are fresh: a slow group does not delay the next.
        self.recheck_permissions().await?;
        self.record_in_group(&mut inserts, &mut output)?;
        let committed = self.app.group_commit.commit(inserts).await;
        let committed = committed.map_err(ApiError::from_write)?;
        Ok(committed.then_some(output))
    }

    /// Adds the audit events and the stored response of a command to the inserts of its group.
    pub fn record_in_group(
        &self,
        inserts: &mut Inserts,
        output: &mut CommandOutput,
    ) -> Result<(), StoreError> {
        output.mark_accepted();
        let audit = &self.app.db.audit;
        audit.record_in_group(inserts, &output.events)?;
        if let Some(key) = self.key {
            idempotency::insert_in_group(self.app, inserts, key, &output.response)?;
        }
        Ok(())
    }
}
