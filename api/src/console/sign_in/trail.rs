//! Sign-ins and sign-outs in the audit trail.

use dezky_shared::{
    audit::{Action, Actor, ActorKind, AuditEvent},
    store::TransactionError,
    user::User,
};
use futures::FutureExt as _;

use super::super::{Console, failure::Failure};
use crate::{
    auth::OPERATOR_AUDIENCE, error::ApiError, request_info::RequestInfo, user_audit::target,
};

/// Records an action of an operator on their own session.
pub(super) async fn record(
    console: &Console,
    action: Action,
    user: &User,
    request: &RequestInfo,
) -> Result<(), Failure> {
    let app = &console.app;
    let actor = Actor {
        id: user.id.to_string(),
        name: Some(user.name.clone()),
        email: Some(user.email.clone()),
        kind: ActorKind::Operator,
        audience: vec![OPERATOR_AUDIENCE.to_owned()],
    };
    let (now, origin) = (app.store.now(), request.origin());
    let event = AuditEvent::new(now, actor, action, target(user), origin);
    let recorded = app
        .store
        .transaction((&app.db.audit, &event), |session, (audit, event)| {
            async move {
                audit.record(session, event).await?;
                Ok::<(), TransactionError<ApiError>>(())
            }
            .boxed()
        })
        .await;
    match recorded {
        Ok(()) => Ok(()),
        Err(TransactionError::Aborted(error)) => Err(error.into()),
        Err(TransactionError::Store(error)) => Err(error.into()),
    }
}
