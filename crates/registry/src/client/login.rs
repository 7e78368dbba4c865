//! Whether a registry knows somebody: by a password, or by a token that its token server gives for one.
//!
//! The registry's `/v2/` says what it wants to be shown (distribution specification, "Endpoints", end-1); tokens are as in the
//! distribution project's "Token Authentication" and "OAuth2 Token Authentication".

use std::fmt;

use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Method, StatusCode};

use super::Shared;
use super::origin::Origin;
use super::payload::Payload;
use super::refusal::{challenges, said};
use super::tokens::{Grant, Wanted, basic, secret};
use super::transport::{Answer, Request, without_query};
use super::visit::Endpoint;
use crate::challenge::Challenge;
use crate::{Client, Error, RegistryAddress, Result};

/// How somebody shows who they are. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credentials {
    Password {
        name: String,
        password: String,
    },
    /// A refresh token of an earlier login.
    Identity(String),
    /// What a token server would give, got by somebody else.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password",
            Self::Identity(_) => "Identity",
            Self::Token(_) => "Token",
        })
    }
}

/// What a registry gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// To be kept in the place of the password, where the registry gives one.
    pub identity: Option<String>,
}

impl Client {
    /// Shows credentials to a registry: by TLS; to an insecure one without proof of who it is, and then without TLS.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] when they are not accepted; all others when that could not be found out.
    pub async fn login(&self, registry: &RegistryAddress, credentials: &Credentials) -> Result<Login> {
        let shared = &self.shared;
        let channel = shared.transport.channel(registry).await?;
        let visit = Visit {
            shared,
            endpoint: Endpoint::of_registry(registry, Some(credentials.clone())),
            home: Origin::of_registry(registry, channel),
        };
        let outcome = visit.login().await;
        if matches!(outcome, Err(Error::Unreachable { .. })) {
            shared.transport.known.forget(registry);
        }
        outcome
    }
}

/// One attempt.
struct Visit<'a> {
    shared: &'a Shared,
    endpoint: Endpoint,
    home: Origin,
}

impl Visit<'_> {
    async fn login(&self) -> Result<Login> {
        let answer = self.knock(None).await?;
        if answer.status == StatusCode::OK {
            answer.dismiss().await;
            return Ok(Login::default());
        }
        let challenges = challenges(&answer);
        if let Some(Credentials::Token(token)) = &self.endpoint.credentials {
            answer.dismiss().await;
            self.enter(secret(&format!("Bearer {token}"), &self.url())?).await?;
            return Ok(Login::default());
        }
        let wanted = |scheme| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if answer.status != StatusCode::UNAUTHORIZED {
            return Err(self.refused(answer).await);
        }
        answer.dismiss().await;
        if let Some(bearer) = wanted("bearer") {
            let grant = self.grant(bearer).await?;
            self.enter(grant.authorization(&self.url())?).await?;
            return Ok(Login { identity: grant.refresh_token.filter(|token| !token.is_empty()) });
        }
        match (wanted("basic"), &self.endpoint.credentials) {
            (Some(_), Some(Credentials::Password { name, password })) => {
                self.enter(secret(&basic(name, password), &self.url())?).await?;
                Ok(Login::default())
            }
            (Some(_), _) => Err(self.protocol("it wants a name and a password, not an identity token")),
            (None, _) => Err(self.protocol("it refuses, and does not say what it wants to be shown")),
        }
    }

    fn url(&self) -> String {
        format!("{}/v2/", self.home)
    }

    async fn knock(&self, authorization: Option<HeaderValue>) -> Result<Answer> {
        let headers = authorization.map(|value| (AUTHORIZATION, value)).into_iter().collect();
        let request = Request {
            method: Method::GET,
            url: self.url().parse().map_err(|_| self.protocol("it is no URL"))?,
            channel: self.home.channel,
            headers,
            payload: Payload::Nothing,
            patience: self.shared.transport.options().patience.answer,
        };
        // Passwords don't go on to another place.
        self.shared.persist(request, 0, None).await
    }

    async fn enter(&self, authorization: HeaderValue) -> Result<()> {
        let answer = self.knock(Some(authorization)).await?;
        if answer.status != StatusCode::OK {
            return Err(self.refused(answer).await);
        }
        answer.dismiss().await;
        Ok(())
    }

    /// Asks the token server that the registry names.
    async fn grant(&self, bearer: &Challenge) -> Result<Grant> {
        let parameter = |name| bearer.parameter(name).unwrap_or_default();
        let wanted = Wanted {
            realm: parameter("realm"),
            service: parameter("service"),
            scopes: &[],
            is_offline: true,
        };
        match self.shared.grant(&self.endpoint, &self.home, &wanted).await? {
            Ok((grant, _)) => Ok(grant),
            Err(answer) => Err(self.refused(answer).await),
        }
    }

    fn protocol(&self, why: &str) -> Error {
        Error::Protocol { url: self.url(), why: why.to_owned() }
    }

    /// What an answer that isn't 200 means.
    async fn refused(&self, answer: Answer) -> Error {
        let (status, url) = (answer.status, without_query(&answer.url.to_string()).to_owned());
        let said = said(answer).await;
        if status == StatusCode::UNAUTHORIZED {
            return Error::Unauthorized { url, why: said.why_unauthorized() };
        }
        let said = if said.text.is_empty() { String::new() } else { format!(": {}", said.text) };
        Error::Protocol { url, why: format!("login attempt failed with status {status}{said}") }
    }
}

#[cfg(test)]
mod tests;
