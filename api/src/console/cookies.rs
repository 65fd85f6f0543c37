//! Cookies of the console.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};

/// A cookie of the console.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cookie {
    /// Id of a session.
    Session,
    /// Attempt to sign in.
    SignIn,
}

impl Cookie {
    fn name(self) -> &'static str {
        match self {
            Self::Session => "dezky_console",
            Self::SignIn => "dezky_console_sign_in",
        }
    }
}

/// Reads and writes the cookies.
///
/// Over HTTPS their names have the prefix `__Host-`: no other host, and no page without encryption, can set them. Browsers
/// accept the prefix with `Secure` only, which plain HTTP on the developer's machine cannot have.
#[derive(Debug)]
pub(super) struct Cookies {
    is_secure: bool,
}

impl Cookies {
    pub(super) fn new(is_secure: bool) -> Self {
        Self { is_secure }
    }

    /// The value of a cookie, if it was sent once.
    pub(super) fn get<'a>(&self, headers: &'a HeaderMap, cookie: Cookie) -> Option<&'a str> {
        let name = self.name(cookie);
        let sent = headers.get_all(header::COOKIE).into_iter();
        let pairs = sent
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'));
        let mut values = pairs.filter_map(|pair| {
            let (key, value) = pair.trim().split_once('=')?;
            (key == name).then_some(value)
        });
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// Header that sets a cookie. The value has no characters with a meaning in the header.
    pub(super) fn set(
        &self,
        cookie: Cookie,
        value: &str,
        max_age: Duration,
    ) -> Option<HeaderValue> {
        let name = self.name(cookie);
        let secure = if self.is_secure { "; Secure" } else { "" };
        let seconds = max_age.as_secs();
        let text =
            format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
        HeaderValue::try_from(text).ok()
    }

    /// Header that removes a cookie.
    pub(super) fn remove(&self, cookie: Cookie) -> Option<HeaderValue> {
        self.set(cookie, "", Duration::ZERO)
    }

    fn name(&self, cookie: Cookie) -> String {
        let prefix = if self.is_secure { "__Host-" } else { "" };
        format!("{prefix}{}", cookie.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_bound_to_its_host_and_read_if_it_was_sent_once() {
        let cookies = Cookies::new(true);
        let set = cookies
            .set(Cookie::Session, "abc", Duration::from_mins(1))
            .unwrap();
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_static(text));
            cookies.get(&headers, Cookie::Session).map(str::to_owned)
        };

        assert_eq!(
            set,
            "__Host-dezky_console=abc; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure"
        );
        assert_eq!(
            read("a=b; __Host-dezky_console=abc").as_deref(),
            Some("abc")
        );
        assert_eq!(read("dezky_console=abc"), None);
        assert_eq!(read("__Host-dezky_console=a; __Host-dezky_console=b"), None);
    }
}
