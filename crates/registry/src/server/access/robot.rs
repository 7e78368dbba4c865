//! Robots: accounts for programs, with a secret of ours, an end, and what they may do.

use serde::{Deserialize, Serialize};

use super::config;
use super::policy::Grant;
use super::secret::{self, Fingerprint};

/// What stands before a robot's secret.
const MARK: &str = "corten_robot_";
const NAME_MAX: usize = 64;
const GRANTS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Robot {
    pub name: String,
    pub secret: Fingerprint,
    pub made_s: u64,
    /// Never, if it isn't said.
    pub expires_s: Option<u64>,
    /// As they are written; what they mean is `meaning`.
    pub grants: Vec<RobotGrant>,
    meaning: Vec<Grant>,
}

/// What a robot may do, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RobotGrant {
    pub repositories: Vec<String>,
    pub may: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RobotError {
    #[error("robot {0:?}: a name has 1 to {NAME_MAX} letters, digits, '.', '-' and '_'")]
    Name(String),
    #[error("{0:?}: want PATTERN:ACTION[,ACTION…], as team/*:read,write")]
    Form(String),
    #[error("{0}")]
    Grant(String),
    #[error(
        "a robot that may do nothing is of no use; say what it may with --allow PATTERN:ACTION[,ACTION…]"
    )]
    Nothing,
    #[error("the time it ends at has passed")]
    Past,
    #[error("the system gives no random numbers")]
    Randomness,
}

impl RobotGrant {
    /// Reads `PATTERN:ACTION[,ACTION…]`.
    pub fn parse(text: &str) -> Result<Self, RobotError> {
        let (pattern, actions) = text.rsplit_once(':').ok_or_else(|| RobotError::Form(text.to_owned()))?;
        let may = actions.split(',').map(str::to_owned).collect();
        let grant = Self { repositories: vec![pattern.to_owned()], may };
        grant.meaning().map(|_| grant).map_err(RobotError::Grant)
    }

    fn meaning(&self) -> Result<Grant, String> {
        let nothing = self.repositories.is_empty() || self.may.is_empty();
        let meaning =
            config::grant("allow", &self.repositories, &self.may).map_err(|error| error.to_string())?;
        if nothing { Err("it allows nothing".to_owned()) } else { Ok(meaning) }
    }
}

impl Robot {
    /// A new one, and its secret, which is nowhere else.
    pub fn make(
        name: &str,
        grants: Vec<RobotGrant>,
        expires_s: Option<u64>,
        now_s: u64,
    ) -> Result<(Self, String), RobotError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(plain) {
            return Err(RobotError::Name(name.to_owned()));
        }
        match grants.len() {
            0 => return Err(RobotError::Nothing),
            1..=GRANTS_MAX => {}
            _ => return Err(RobotError::Grant(format!("a robot has {GRANTS_MAX} permissions at most"))),
        }
        if expires_s.is_some_and(|expires_s| expires_s <= now_s) {
            return Err(RobotError::Past);
        }
        let meaning =
            grants.iter().map(RobotGrant::meaning).collect::<Result<_, _>>().map_err(RobotError::Grant)?;
        let secret = secret::generate(MARK).ok_or(RobotError::Randomness)?;
        let fingerprint = Fingerprint::of(secret.as_bytes());
        let name = name.to_owned();
        Ok((Self { name, secret: fingerprint, made_s: now_s, expires_s, grants, meaning }, secret))
    }

    /// One that was kept.
    pub fn read(
        name: String,
        secret: Fingerprint,
        made_s: u64,
        expires_s: Option<u64>,
        grants: &str,
    ) -> Result<Self, String> {
        let grants: Vec<RobotGrant> = serde_json::from_str(grants).map_err(|error| error.to_string())?;
        let meaning = grants.iter().map(RobotGrant::meaning).collect::<Result<_, _>>()?;
        Ok(Self { name, secret, made_s, expires_s, grants, meaning })
    }

    pub fn grants_text(&self) -> String {
        // Lists of texts always have a form in JSON.
        serde_json::to_string(&self.grants).unwrap_or_default()
    }

    pub fn meaning(&self) -> &[Grant] {
        &self.meaning
    }

    pub fn is_expired(&self, now_s: u64) -> bool {
        self.expires_s.is_some_and(|expires_s| expires_s <= now_s)
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::Action;
    use super::*;

    #[test]
    fn a_robot_is_made_once_and_kept_without_its_secret() {
        let grants = vec![RobotGrant::parse("team/*:read,write").unwrap()];
        let (robot, secret) = Robot::make("ci", grants, Some(200), 100).unwrap();
        assert!(robot.secret.is_of(&secret) && secret.starts_with(MARK));
        assert!(!robot.is_expired(199) && robot.is_expired(200));
        let text = robot.grants_text();
        assert!(!format!("{robot:?}{text}").contains(&secret[MARK.len()..]));
        let read = Robot::read("ci".into(), robot.secret, 100, Some(200), &text).unwrap();
        assert_eq!(read, robot);
        assert!(read.meaning()[0].may.contains(Action::Write));
    }

    #[test]
    fn mistakes_are_told() {
        let one = || vec![RobotGrant::parse("**:read").unwrap()];
        for name in ["", "a b", "a:b", "robot+x", &"x".repeat(65)] {
            assert!(matches!(Robot::make(name, one(), None, 0), Err(RobotError::Name(_))), "{name}");
        }
        assert_eq!(Robot::make("a", vec![], None, 0).unwrap_err(), RobotError::Nothing);
        assert_eq!(Robot::make("a", one(), Some(5), 5).unwrap_err(), RobotError::Past);
        for (text, expected) in [
            ("team", r#""team": want PATTERN:ACTION[,ACTION…], as team/*:read,write"#),
            ("team:pull", r#"allow.may: "pull": want read, write, delete or admin"#),
            (
                "Team:read",
                "allow.repositories: \"Team\": it has 'T' in it, which no repository's name has; patterns know *, ** and {user}",
            ),
            ("team:", r#"allow.may: "": want read, write, delete or admin"#),
        ] {
            assert_eq!(RobotGrant::parse(text).unwrap_err().to_string(), expected);
        }
    }
}
