//! Slugs of tenants, partners and apps.

use super::Violation;

/// Slugs that would collide with URLs, host names or groups of the service.
const RESERVED: &[&str] = &[
    "about",
    "account",
    "accounts",
    "admin",
    "administrator",
    "api",
    "app",
    "assets",
    "audit",
    "auth",
    "authentik",
    "billing",
    "blog",
    "cdn",
    "cloud",
    "dashboard",
    "docs",
    "domains",
    "events",
    "files",
    "health",
    "healthz",
    "help",
    "internal",
    "invoices",
    "jobs",
    "login",
    "logout",
    "mail",
    "me",
    "members",
    "metrics",
    "ocis",
    "openapi",
    "operator",
    "partners",
    "platform",
    "portal",
    "public",
    "readyz",
    "root",
    "settings",
    "signup",
    "sso",
    "stalwart",
    "static",
    "status",
    "subscriptions",
    "support",
    "system",
    "tenants",
    "users",
    "webhooks",
    "webmail",
    "www",
];

/// A slug: `^[a-z][a-z0-9-]{1,38}[a-z0-9]$`, no `--`.
pub fn well_formed_slug(text: &str) -> Result<String, Violation> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let well_formed = (3..=40).contains(&text.len())
        && text.bytes().all(allowed)
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
        && !text.contains("--");
    if !well_formed {
        let message = "A slug must be 3–40 characters: lower-case letters, digits and single hyphens. It starts with a \
                       letter and does not end with a hyphen.";
        return Err(("invalid_slug", message.to_owned()));
    }
    Ok(text.to_owned())
}

/// A [well-formed](well_formed_slug) slug of a tenant or partner, not reserved.
pub fn slug(text: &str, admin_groups: &[String]) -> Result<String, Violation> {
    let slug = well_formed_slug(text)?;
    let is_admin_group = admin_groups
        .iter()
        .any(|group| group.to_lowercase().replace(' ', "-") == text);
    if is_admin_group || RESERVED.contains(&text) {
        return Err(("reserved_slug", format!("{text:?} is reserved.")));
    }
    Ok(slug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_plain_short_and_not_reserved() {
        let groups = [
            "dezky-platform-admins".to_owned(),
            "authentik Admins".to_owned(),
        ];
        let code = |text: &str| slug(text, &groups).map_err(|(code, _)| code);

        for good in [
            "abc",
            "a-b",
            "acme-2",
            "a1b",
            &format!("a{}", "b".repeat(39)),
        ] {
            assert!(code(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "ab",
            "Acme",
            "1abc",
            "-abc",
            "abc-",
            "a--b",
            "a_b",
            "a b",
            "аcme",
            "acmé",
            "ａｃｍｅ",
            "acme\n",
            "acme\0",
            &format!("a{}", "b".repeat(40)),
        ] {
            assert_eq!(code(bad), Err("invalid_slug"), "{bad:?}");
        }
        for reserved in [
            "www",
            "api",
            "admin",
            "dezky-platform-admins",
            "authentik-admins",
        ] {
            assert_eq!(code(reserved), Err("reserved_slug"), "{reserved}");
        }
    }
}
