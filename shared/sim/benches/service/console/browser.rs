//! A browser in which an operator has signed in to the console.

use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::callers::Caller;
use reqwest::{Response, Url, header, redirect::Policy};

use crate::world::World;

/// Address that the console is configured with. The api listens elsewhere: only redirects of the issuer lead there.
pub(super) const ORIGIN: &str = "http://localhost:3001";

/// The browser, with the cookie of its session.
pub(super) struct Browser<'a> {
    world: &'a World,
    client: reqwest::Client,
    cookie: String,
}

impl<'a> Browser<'a> {
    pub(super) async fn signed_in(world: &'a World) -> Self {
        let builder = TrustRoots::default().client_builder();
        let client = builder.redirect(Policy::none()).build();
        let client = client.expect("a client needs nothing");
        let begun = client.get(format!("{}/console/sign-in", world.url)).send();
        let begun = begun.await.expect("the api responds");
        let mut issuer = Url::parse(location(&begun)).expect("it is an address");
        issuer
            .query_pairs_mut()
            .append_pair("sign_in_as", Caller::Operator.name());
        let chosen = client.get(issuer).send().await;
        let chosen = chosen.expect("the issuer responds");
        let answer = location(&chosen).strip_prefix(ORIGIN);
        let answer = answer.expect("the issuer leads back");
        let attempt = cookie(&begun);
        let request = client.get(format!("{}{answer}", world.url));
        let signed_in = request.header(header::COOKIE, attempt).send().await;
        let signed_in = signed_in.expect("the api responds");
        assert_eq!(location(&signed_in), "/console", "{signed_in:?}");
        let cookie = cookie(&signed_in);
        Self {
            world,
            client,
            cookie,
        }
    }

    /// Opens a page below `/console`, as its script does if it `is_live`. Anything but success is a panic.
    pub(super) async fn open(&self, page: &str, is_live: bool) {
        let url = format!("{}/console{page}", self.world.url);
        let mut request = self.client.get(url).header(header::COOKIE, &self.cookie);
        if is_live {
            request = request.header("x-console-live", "1");
        }
        let response = request.send().await.expect("the api responds");
        let status = response.status();
        let text = response.text().await.expect("the response is complete");
        assert!(status.is_success(), "/console{page}: {status} {text}");
    }
}

fn location(response: &Response) -> &str {
    let location = response.headers().get(header::LOCATION);
    let location = location.unwrap_or_else(|| panic!("no redirect: {response:?}"));
    location.to_str().expect("it is text")
}

/// The first cookie that the response sets.
fn cookie(response: &Response) -> String {
    let cookie = response.headers().get(header::SET_COOKIE);
    let cookie = cookie.unwrap_or_else(|| panic!("no cookie: {response:?}"));
    let cookie = cookie.to_str().expect("it is text");
    cookie.split(';').next().unwrap_or_default().to_owned()
}
