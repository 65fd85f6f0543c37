//! Ending what a user is signed in with.
//!
//! Sessions can be listed by `user__username` and by nothing else that names a user: `?user=` is no filter there,
//! is ignored, and the answer holds the sessions of everybody. So nothing is deleted whose user is not the one
//! meant. Refresh tokens survive their session, and are deleted too.

use serde::Deserialize;

use super::{Authentik, User, failed};
use crate::clients::{ClientError, Operation};

/// How often to look for what is left before giving up: a login may run meanwhile.
const LOOKS: usize = 4;

/// A kind of thing that a user is signed in with.
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
    /// Ends all sessions of a user and takes back their tokens. Answers how many there were.
    ///
    /// `user` is as read just now: their sessions are found by their username.
    pub async fn end_sessions(&self, user: &User) -> Result<usize, ClientError> {
        let mut ended = 0;
        for _ in 0..LOOKS {
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
            tracing::warn!(
                foreign,
                "Authentik listed sessions of other users, which are left alone"
            );
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
