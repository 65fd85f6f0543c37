//! One-time passwords: generated here, shown once, and set at the upstreams by a job that holds them encrypted.

use std::fmt;

use bson::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Member;
use crate::{tenant::Tenant, user::User};

/// Letters of a password: 32, without those that look alike.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Letters of a password: 100 bits.
const LENGTH: usize = 20;
/// Letters of a group, for reading aloud.
const GROUP: usize = 4;

/// A new random password. It begins with a letter or digit: the mail server takes a text with `$` or `{` in front for a
/// hash.
pub fn generate_password() -> String {
    let mut bits: u128 = rand::random();
    let mut password = String::new();
    for place in 0..LENGTH {
        if place > 0 && place.is_multiple_of(GROUP) {
            password.push('-');
        }
        let letter = usize::try_from(bits % 32).unwrap_or(0);
        password.push(char::from(ALPHABET[letter]));
        bits /= 32;
    }
    password
}

/// Secrets of the jobs that set a member's password, encrypted in the job until it is final.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberSecrets {
    /// One-time password.
    pub password: String,
    /// Time of issue. The password is superseded if [`Member::password_issued_at`] is another one: a job whose first
    /// attempt failed may run after that of a later password.
    pub issued_at: DateTime,
}

impl fmt::Debug for MemberSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberSecrets")
            .field("issued_at", &self.issued_at)
            .finish_non_exhaustive()
    }
}

/// Scope of a one-time password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum PasswordScope {
    /// The account at the identity provider, and the mailbox.
    All,
    /// The account at the identity provider.
    SignIn,
    /// The mailbox.
    Mailbox,
}

impl PasswordScope {
    const fn of(opens_sign_in: bool, opens_mailbox: bool) -> Option<Self> {
        match (opens_sign_in, opens_mailbox) {
            (true, true) => Some(Self::All),
            (true, false) => Some(Self::SignIn),
            (false, true) => Some(Self::Mailbox),
            (false, false) => None,
        }
    }

    /// Scope of the one-time password that was issued last, once its job is done.
    pub fn opened_by(member: &Member) -> Option<Self> {
        let issued = member.password_issued_at;
        let is_set = |set: Option<DateTime>| set.is_some() && set == issued;
        let account = member.authentik.as_ref();
        let mailbox = member.mailbox.as_ref();
        let sign_in = account.is_some_and(|account| is_set(account.password_issued_at));
        let mail = mailbox.is_some_and(|mailbox| is_set(mailbox.password_issued_at));
        Self::of(sign_in, mail)
    }

    /// Name in responses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::SignIn => "signIn",
            Self::Mailbox => "mailbox",
        }
    }
}

impl Member {
    /// Issues `password`, which supersedes every one that was issued before.
    pub fn issue_password(&mut self, password: String, now: DateTime) -> MemberSecrets {
        // A later password supersedes this one even within the same millisecond.
        let earliest = self
            .password_issued_at
            .map_or(now, |at| DateTime::from_millis(at.timestamp_millis() + 1));
        let issued_at = now.max(earliest);
        self.password_issued_at = Some(issued_at);
        MemberSecrets {
            password,
            issued_at,
        }
    }

    /// Scope of the first one-time password of a new member, as far as it is known before its account is.
    /// `is_elsewhere` is whether another tenant has created the account, or alone may create it.
    pub fn first_password_scope(&self, is_elsewhere: bool) -> Option<PasswordScope> {
        PasswordScope::of(!is_elsewhere, self.mailbox.is_some())
    }

    /// Scope of a one-time password: not a sign-in account that existed before, or that is not the tenant's to set.
    /// `None` if it would open nothing. `is_elsewhere` is whether another tenant has a member with the same account.
    pub fn password_scope(
        &self,
        tenant: &Tenant,
        user: Option<&User>,
        is_elsewhere: bool,
    ) -> Option<PasswordScope> {
        let is_own_address = self.has_address_of(tenant);
        if self.authentik.is_none() {
            return self.first_password_scope(is_elsewhere);
        }
        let opens_sign_in = self.owns_account(is_own_address, user, is_elsewhere);
        PasswordScope::of(opens_sign_in, self.mailbox.is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn passwords_are_distinct_groups_of_unambiguous_letters() {
        let passwords: BTreeSet<String> = (0..100).map(|_| generate_password()).collect();

        assert_eq!(passwords.len(), 100);
        assert_eq!(ALPHABET.iter().collect::<BTreeSet<_>>().len(), 32);
        for password in passwords {
            let groups: Vec<&str> = password.split('-').collect();
            assert_eq!(groups.len(), LENGTH / GROUP, "{password}");
            for group in groups {
                assert_eq!(group.len(), GROUP, "{password}");
                assert!(
                    group.bytes().all(|byte| ALPHABET.contains(&byte)),
                    "{password}"
                );
            }
        }
    }

    #[test]
    fn the_password_is_not_in_the_debug_output() {
        let secrets = MemberSecrets {
            password: "hunter2".to_owned(),
            issued_at: DateTime::from_millis(1_000),
        };

        assert!(!format!("{secrets:?}").contains("hunter2"));
    }
}
