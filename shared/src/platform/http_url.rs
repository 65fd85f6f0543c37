//! HTTP URLs of the configuration, refused at the start if no request could succeed with them.
//!
//! No error contains the URL, which may carry a password.

use std::str::FromStr;

use reqwest::Url;

/// An absolute `http` or `https` URL without user name, password, query and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl(Url);

impl HttpUrl {
    /// The parsed URL.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Path without its trailing slash; empty for the root.
    pub fn path(&self) -> &str {
        self.0.path().trim_end_matches('/')
    }

    /// Scheme, host and port, as a browser writes them: lower case, without a default port and a trailing slash.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// The URL without a trailing slash, to which paths are appended.
    pub fn base(&self) -> String {
        format!("{}{}", self.origin(), self.path())
    }
}

impl FromStr for HttpUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        let is_http =
            |scheme: &str| ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str());
        if !scheme.is_some_and(is_http) {
            return Err("expected a URL that begins with http:// or https://");
        }
        // The parser drops some of these silently.
        if text.contains(|character: char| character.is_whitespace() || character == '\\') {
            return Err("expected a URL without blanks and backslashes");
        }
        let url: Url = text
            .parse()
            .map_err(|_| "expected a URL such as https://host.example.com")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("expected a URL without user name and password");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("expected a URL without a query (?) and a fragment (#)");
        }
        if url.port() == Some(0) {
            return Err("expected a URL with a port other than 0");
        }
        Ok(Self(url))
    }
}

/// An [`HttpUrl`] without a path: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOrigin(HttpUrl);

impl HttpOrigin {
    /// The parsed URL.
    pub fn url(&self) -> &Url {
        self.0.url()
    }

    /// Scheme, host and port, without a trailing slash.
    pub fn origin(&self) -> String {
        self.0.origin()
    }
}

impl FromStr for HttpOrigin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url: HttpUrl = text.parse()?;
        if !url.path().is_empty() {
            return Err("expected a URL without a path, such as https://host.example.com");
        }
        Ok(Self(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_no_request_can_use_are_refused() {
        for text in [
            "",
            "host.example.com",
            "ftp://host.example.com",
            "HTTP:/host.example.com",
            "https://",
            "https://?query",
            "https://user@host.example.com",
            "https://user:secret@host.example.com",
            "https://host.example.com?query",
            "https://host.example.com/#fragment",
            "https://host .example.com",
            "https://host.example.com/a b",
            "https://host.example.com/a\tb",
            "https:\\\\host.example.com",
            "https://host.example.com:0",
            "https://host.example.com:65536",
            "http://[::1",
        ] {
            let error = text.parse::<HttpUrl>().unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_url_has_one_form_whatever_its_spelling() {
        let base = |text: &str| text.parse::<HttpUrl>().map(|url| url.base());

        assert_eq!(
            base("https://Host.example.com:443/api/v3/"),
            Ok("https://host.example.com/api/v3".to_owned())
        );
        assert_eq!(
            base("http://[::1]:9000"),
            Ok("http://[::1]:9000".to_owned())
        );
    }

    #[test]
    fn an_origin_has_no_path() {
        let origin = |text: &str| text.parse::<HttpOrigin>().map(|origin| origin.origin());

        assert_eq!(origin("http://sim:3903/"), Ok("http://sim:3903".to_owned()));
        assert!(origin("http://sim:3903/jmap").is_err());
    }
}
