//! Errors of addresses that a member cannot have.

use dezky_shared::member::{AddressError, InvalidAddress};

use crate::error::{ApiError, FieldError, ProblemCode};

/// Detail of a rejected alias.
const RESERVED: &str = "Only owners can add postmaster, abuse, hostmaster, webmaster, mailer-daemon and noreply as aliases.";

impl From<AddressError> for ApiError {
    fn from(error: AddressError) -> Self {
        match error {
            AddressError::NoMailDomain => ProblemCode::NoMailDomain.into(),
            AddressError::DomainRemoving => ProblemCode::DomainRemoving.into(),
            AddressError::ReservedAlias => Self::new(ProblemCode::Forbidden).with_detail(RESERVED),
            AddressError::Invalid(fields) => {
                let fields = fields.into_iter();
                let error = |it: InvalidAddress| FieldError::at(it.pointer, it.code, it.message);
                Self::invalid(fields.map(error).collect())
            }
        }
    }
}
