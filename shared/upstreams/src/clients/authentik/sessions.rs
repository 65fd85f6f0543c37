//! Revocation of a user's sessions, tokens and app passwords.
//!
//! Sessions and app passwords can be filtered by `user__username` only: `?user=` is not a filter there, and returns those
//! of all users. The user of each is therefore compared before it is deleted. Refresh tokens survive their session, and
//! app passwords the deactivation of the user: both are deleted too.

use serde::Deserialize;

use super::{Authentik, User, failed};
use crate::clients::{ClientError, Operation};

/// Maximum number of passes: a login may create sessions meanwhile.
const MAX_PASSES: usize = 4;

/// Kind of credential of a signed-in user.
struct Kind {
    path: &'static str,
    list: &'static str,
    delete: Operation,
}

const SESSIONS: Kind = Kind {
    path: "/core/authenticated_sessions/",
    list: "list_sessions",
    delete: Operation::write("delete_session"),
};
const REFRESH_TOKENS: Kind = Kind {
    path: "/oauth2/refresh_tokens/",
    list: "list_refresh_tokens",
    delete: Operation::write("delete_refresh_token"),
};
const ACCESS_TOKENS: Kind = Kind {
    path: "/oauth2/access_tokens/",
    list: "list_access_tokens",
    delete: Operation::write("delete_access_token"),
};

const APP_PASSWORDS: Kind = Kind {
    path: "/core/tokens/",
    list: "list_app_passwords",
    delete: Operation::write("delete_app_password"),
};
/// Intent of the tokens that are app passwords.
const APP_PASSWORD: &str = "app_password";

impl Authentik {
    /// Ends everything that a user is signed in with: sessions, tokens and app passwords.
    ///
    /// `user` must be freshly read: sessions are found by the username.
    pub async fn end_access(&self, user: &User) -> Result<EndedSessions, ClientError> {
        let mut ended = self.end_sessions(user).await?;
        for id in self.app_passwords(user).await? {
            let path = format!("{}{id}/", APP_PASSWORDS.path);
            if self.delete(APP_PASSWORDS.delete, &path).await? {
                ended.tokens += 1;
            }
        }
        Ok(ended)
    }

    /// Revokes a user's tokens of these providers, and leaves sessions and all other tokens.
    pub async fn end_app_tokens(
        &self,
        user: &User,
        providers: &[i64],
    ) -> Result<EndedSessions, ClientError> {
        let mut ended = EndedSessions::default();
        if providers.is_empty() {
            return Ok(ended);
        }
        for kind in [REFRESH_TOKENS, ACCESS_TOKENS] {
            for token in self.list_tokens(user, &kind).await? {
                let provider = token.provider.map(|provider| provider.pk);
                if !provider.is_some_and(|provider| providers.contains(&provider)) {
                    continue;
                }
                let path = format!("{}{}/", kind.path, token.pk);
                if self.delete(kind.delete, &path).await? {
                    ended.tokens += 1;
                }
            }
        }
        Ok(ended)
    }

    /// Ends all sessions of a user and revokes their tokens. App passwords stay.
    ///
    /// `user` must be freshly read: sessions are found by the username.
    pub async fn end_sessions(&self, user: &User) -> Result<EndedSessions, ClientError> {
        let mut ended = EndedSessions::default();
        for _ in 0..MAX_PASSES {
            let left = [
                (SESSIONS, self.sessions(user).await?),
                (REFRESH_TOKENS, self.tokens(user, &REFRESH_TOKENS).await?),
                (ACCESS_TOKENS, self.tokens(user, &ACCESS_TOKENS).await?),
            ];
            if left.iter().all(|(_, ids)| ids.is_empty()) {
                return Ok(ended);
            }
            for (kind, ids) in left {
                for id in ids {
                    let path = format!("{}{id}/", kind.path);
                    if self.delete(kind.delete, &path).await? {
                        *ended.count_of(&kind) += 1;
                    }
                }
            }
        }
        let call = failed(SESSIONS.list, "new sessions keep appearing");
        Err(ClientError::StateChanged(call))
    }

    async fn sessions(&self, user: &User) -> Result<Vec<String>, ClientError> {
        let filter = [("user__username", user.username.as_str())];
        let listed: Vec<Session> = self.list(SESSIONS.list, SESSIONS.path, &filter).await?;
        let total = listed.len();
        let own: Vec<String> = listed
            .into_iter()
            .filter(|session| session.user == user.pk)
            .map(|session| session.uuid)
            .collect();
        if own.len() < total {
            let foreign = total - own.len();
            tracing::warn!(foreign, "Authentik listed sessions of other users; ignored");
        }
        Ok(own)
    }

    async fn tokens(&self, user: &User, kind: &Kind) -> Result<Vec<String>, ClientError> {
        let listed = self.list_tokens(user, kind).await?.into_iter();
        Ok(listed.map(|token| token.pk.to_string()).collect())
    }

    async fn list_tokens(&self, user: &User, kind: &Kind) -> Result<Vec<Token>, ClientError> {
        let pk = user.pk.to_string();
        let mut listed: Vec<Token> = self.list(kind.list, kind.path, &[("user", &pk)]).await?;
        listed.retain(|token| token.user.pk == user.pk);
        Ok(listed)
    }

    /// Identifiers of the user's app passwords. API tokens are the person's own, and refused while the user is inactive.
    async fn app_passwords(&self, user: &User) -> Result<Vec<String>, ClientError> {
        let filter = [
            ("user__username", user.username.as_str()),
            ("intent", APP_PASSWORD),
        ];
        let mut listed: Vec<AppPassword> = self
            .list(APP_PASSWORDS.list, APP_PASSWORDS.path, &filter)
            .await?;
        listed.retain(|token| token.user == Some(user.pk) && token.intent == APP_PASSWORD);
        // Part of a path.
        let is_slug = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        listed.retain(|token| token.identifier.bytes().all(is_slug));
        Ok(listed.into_iter().map(|token| token.identifier).collect())
    }
}

/// Number of ended sessions and revoked tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndedSessions {
    /// Sessions.
    pub sessions: usize,
    /// Access and refresh tokens, and app passwords.
    pub tokens: usize,
}

impl EndedSessions {
    /// The change in words, if anything was ended.
    pub fn change(self) -> Option<String> {
        let ended = self.sessions + self.tokens;
        (ended > 0).then(|| format!("{ended} sessions and tokens ended"))
    }

    fn count_of(&mut self, kind: &Kind) -> &mut usize {
        if kind.path == SESSIONS.path {
            &mut self.sessions
        } else {
            &mut self.tokens
        }
    }
}

#[derive(Deserialize)]
struct Session {
    uuid: String,
    user: i64,
}

#[derive(Deserialize)]
struct Token {
    pk: i64,
    user: Numbered,
    /// Provider of the app that the token is for.
    #[serde(default)]
    provider: Option<Numbered>,
}

#[derive(Deserialize)]
struct Numbered {
    pk: i64,
}

#[derive(Deserialize)]
struct AppPassword {
    identifier: String,
    #[serde(default)]
    intent: String,
    #[serde(default)]
    user: Option<i64>,
}
