//! Packages that portals use, at the versions in `portal/`: OIDC clients, an OIDC issuer, and the client of the API.

use super::npm::{NpmPackages, PackageSet};

const PACKAGES: PackageSet = PackageSet {
    versions: "portal",
    installation: "portal-1",
    contents: "OIDC clients and an issuer (5 MB)",
};

/// Installs the packages unless they are.
pub fn portal_tools() -> anyhow::Result<NpmPackages> {
    PACKAGES.ensure()
}
