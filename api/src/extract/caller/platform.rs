//! Access to the platform: of operators by their roles.

use axum::extract::FromRequestParts;
use dezky_shared::user::PlatformRole;
use http::request::Parts;

use super::{Access, AccessState, Caller, OPERATORS_ONLY, SignedIn};
use crate::error::{ApiError, ProblemCode};

/// An operator with any role: may read everything.
#[derive(Debug)]
pub struct PlatformReader(pub Caller);

/// An operator who may requeue jobs.
#[derive(Debug)]
pub struct PlatformSupport(pub Caller);

/// An operator with all rights: has both the operator audience and the admin flag.
#[derive(Debug)]
pub struct Operator(pub Caller);

impl Caller {
    /// Role as an operator: requires the operator audience as well.
    pub fn platform_role(&self) -> Option<PlatformRole> {
        let role = self.user.role_at_platform();
        role.filter(|_| self.has_operator_audience())
    }

    /// Whether the caller is an operator with all rights.
    pub fn is_operator(&self) -> bool {
        self.platform_role() == Some(PlatformRole::Admin)
    }

    /// Whether the caller is an operator, with any role.
    pub fn reads_platform(&self) -> bool {
        self.platform_role().is_some()
    }
}

/// The caller, if it is an operator with at least this role.
async fn with_role<S: AccessState>(
    parts: &mut Parts,
    state: &S,
    least: PlatformRole,
) -> Result<Caller, ApiError> {
    let SignedIn(caller) = SignedIn::from_request_parts(parts, state).await?;
    match caller.platform_role() {
        Some(role) if role >= least => Ok(caller),
        Some(_) => Err(ProblemCode::Forbidden.into()),
        None => Err(ApiError::new(ProblemCode::Forbidden).with_detail(OPERATORS_ONLY)),
    }
}

macro_rules! platform_access {
    ($($extractor:ident: $least:expr;)*) => {$(
        impl Access for $extractor {
            fn caller(&self) -> &Caller {
                &self.0
            }
        }

        impl<S: AccessState> FromRequestParts<S> for $extractor {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
                with_role(parts, state, $least).await.map(Self)
            }
        }
    )*};
}

platform_access! {
    PlatformReader: PlatformRole::Viewer;
    PlatformSupport: PlatformRole::Support;
    Operator: PlatformRole::Admin;
}
