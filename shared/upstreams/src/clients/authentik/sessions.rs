//! Revocation of a user's sessions and refresh tokens.
//!
//! Sessions can be filtered by `user__username` only: `?user=` is not a filter there, and returns the sessions of all
//! users. Every session's user is therefore compared before it is deleted. Refresh tokens survive their session, and
//! are deleted too.

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

impl Authentik {
    /// Ends all sessions of a user and revokes their tokens. Returns their number.
    ///
    /// `user` must be freshly read: sessions are found by the username.
    pub async fn end_sessions(&self, user: &User) -> Result<usize, ClientError> {
        let mut ended = 0;
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
                    ended += usize::from(self.delete(kind.delete, &path).await?);
                }
            }
        }
        let call = failed(SESSIONS.list, "new sessions keep appearing");
        Err(ClientError::Unavailable(call))
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
        let pk = user.pk.to_string();
        let listed: Vec<Token> = self.list(kind.list, kind.path, &[("user", &pk)]).await?;
        Ok(listed
            .into_iter()
            .filter(|token| token.user.pk == user.pk)
            .map(|token| token.pk.to_string())
            .collect())
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
    user: TokenUser,
}

#[derive(Deserialize)]
struct TokenUser {
    pk: i64,
}
