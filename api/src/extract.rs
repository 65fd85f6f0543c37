//! Extractors: the caller with their permissions, and the parts of the request.

mod body;
mod caller;
mod conditional;
mod format;
mod page;
mod path;
mod query;
mod wait;

pub use crate::{access_control::AccessControl, request_info::RequestInfo};

pub use self::{
    body::{EmptyBody, FromBody, Validate},
    caller::{
        Access, AccessState, Bearer, Caller, Manage, ManageCards, ManageTeam, Operator,
        OperatorOnly, OwnersOnly, PartnerAccess, PartnerLevel, PartnerTenant, Permission,
        PlatformReader, PlatformSupport, Read, ReadBilling, ReadPrivate, ReadWrite, SignedIn,
        TenantAccess, TenantCreator,
    },
    conditional::{IfMatch, IfNoneMatch},
    format::Format,
    page::{Cursor, Page, PageOf},
    path::{PathDomain, PathId, PathParam},
    query::{FromQuery, Parameters, QueryParams},
    wait::{Prefer, Wait, max_wait},
};
pub(crate) use self::{
    body::{Object, ensure_not_encoded, media_type, read_body, read_json, without_bom},
    caller::active_partner_of,
};
