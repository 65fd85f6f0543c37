//! Apps of tenants: an `OAuth2` provider, the application that it serves, and the binding that restricts the application
//! to the tenant's group.
//!
//! **An attached application without a binding is open to every user of the server.** So the objects are made in this
//! order: provider, application without provider, binding, attachment. Each is found again by a key that we choose:
//! the provider by its client id, the application by its slug, the binding by its target and group. So every operation
//! here can be repeated after a lost response.

mod applications;
mod bindings;
mod discovery;
mod providers;
mod references;

use dezky_shared::app::App;

pub(super) use self::references::ScopeMapping;

pub use self::{
    applications::Application,
    bindings::{Binding, is_open, is_restricted},
    providers::Provider,
    references::{APP_PROFILE, AppReferences},
};

/// Desired state of an app.
#[derive(Debug, Clone, Copy)]
pub struct DesiredApp<'a> {
    /// Slug of the application, unique on the server.
    pub slug: &'a str,
    /// The app.
    pub app: &'a App,
}

/// An object that an app needs, after it was ensured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnsuredObject<T> {
    /// The object as it is now.
    pub object: T,
    /// Whether this call created it.
    pub is_new: bool,
}
