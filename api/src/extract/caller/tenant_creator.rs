//! Access to the creation of tenants.

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::{Access, AccessState, Caller, OPERATORS_ONLY, SignedIn};
use crate::error::{ApiError, ProblemCode};

/// A caller who may create a tenant: an operator, and with `SELF_SERVICE_TENANTS` a person who works for no partner. Whether
/// that person has a tenant already is decided in the transaction, since a repeated request must get its first response.
#[derive(Debug)]
pub struct TenantCreator(pub Caller);

impl Access for TenantCreator {
    fn caller(&self) -> &Caller {
        &self.0
    }
}

impl<S: AccessState> FromRequestParts<S> for TenantCreator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let SignedIn(caller) = SignedIn::from_request_parts(parts, state).await?;
        let is_customer = !caller.user.is_privileged() && !caller.is_partial_operator();
        if caller.is_operator() || state.access().self_service_tenants && is_customer {
            Ok(Self(caller))
        } else {
            Err(ApiError::new(ProblemCode::Forbidden).with_detail(OPERATORS_ONLY))
        }
    }
}
