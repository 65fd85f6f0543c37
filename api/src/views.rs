//! Representations that several resources share.

mod condition;
mod job_link;
mod provisioning;

pub use self::{
    condition::ConditionView,
    job_link::{JobLink, job_href},
    provisioning::{ErrorsView, StatusView},
};
