//! Who one is, and what one may do; for whoever may do everything, the robots that there are.

use std::sync::Arc;

use super::address::Page;
use super::frame::{self, Section};
use super::html::{Html, attribute, class};
use super::{Failure, Reply, Visit, figures, redirect};
use crate::server::access::robot::Robot;
use crate::server::access::{Actions, Identity};

/// Robots that are listed.
const ROBOTS_MAX: usize = 100;

pub async fn show(visit: &Visit<'_>) -> Reply {
    if visit.is_stranger() {
        return Ok(redirect(&Page::SignIn.href().with("back", "/account")));
    }
    let account = visit.gate.account(&visit.caller).await.ok_or(Failure::Nothing)?;
    Ok(frame::show(visit, Section::Account, "Account", |html| {
        html.line("h1", &[], frame::name(&account.identity));
        html.element("dl", &[class("facts")], |html| {
            let mut fact = |title: &str, inside: &dyn Fn(&mut Html)| {
                html.element("div", &[], |html| {
                    html.line("dt", &[], title);
                    html.element("dd", &[], |html| inside(html));
                });
            };
            fact("Known by", &|html| {
                html.text(match account.identity {
                    Identity::User(_) => "a password",
                    Identity::Robot(_) => "a robot's secret",
                    Identity::Certificate(_) => "a certificate",
                    Identity::Anonymous => "nothing",
                });
            });
            if let Some(robot) = &account.robot {
                fact("Ends", &|html| ends(html, robot, visit.now));
            }
        });
        grants(html, &account.grants);
        if let Some(robots) = &account.robots {
            self::robots(html, robots, visit.now);
        }
    }))
}

fn actions(may: Actions) -> String {
    may.iter().map(|action| action.name()).collect::<Vec<_>>().join(", ")
}

fn grants(html: &mut Html, grants: &[(Vec<String>, Actions)]) {
    html.element("section", &[], |html| {
        html.line("h2", &[], "What you may do");
        if grants.is_empty() {
            return html.line("p", &[class("empty")], "No rule allows you anything.");
        }
        html.element("table", &[class("list")], |html| {
            html.element("thead", &[], |html| {
                html.element("tr", &[], |html| {
                    html.line("th", &[attribute("scope", "col")], "Repositories");
                    html.line("th", &[attribute("scope", "col")], "May");
                });
            });
            html.element("tbody", &[], |html| {
                for (patterns, may) in grants {
                    html.element("tr", &[], |html| {
                        html.element("th", &[attribute("scope", "row")], |html| {
                            for pattern in patterns {
                                html.line("code", &[], pattern);
                                html.text(" ");
                            }
                        });
                        html.line("td", &[], actions(*may));
                    });
                }
            });
        });
    });
}

fn robots(html: &mut Html, robots: &[Arc<Robot>], now: i64) {
    html.element("section", &[], |html| {
        html.line("h2", &[], "Robots");
        if robots.is_empty() {
            return html.line("p", &[class("empty")], "There are none.");
        }
        html.element("table", &[class("list")], |html| {
            html.element("thead", &[], |html| {
                html.element("tr", &[], |html| {
                    html.line("th", &[attribute("scope", "col")], "Name");
                    html.line("th", &[attribute("scope", "col")], "May");
                    html.line("th", &[attribute("scope", "col"), class("when")], "Ends");
                });
            });
            html.element("tbody", &[], |html| {
                for robot in robots.iter().take(ROBOTS_MAX) {
                    html.element("tr", &[], |html| {
                        html.line("th", &[attribute("scope", "row")], &robot.name);
                        html.element("td", &[], |html| {
                            for grant in &robot.grants {
                                html.element("div", &[], |html| {
                                    html.line("code", &[], grant.repositories.join(" "));
                                    html.text(format_args!(": {}", grant.may.join(", ")));
                                });
                            }
                        });
                        html.element("td", &[class("when")], |html| ends(html, robot, now));
                    });
                }
            });
        });
        if robots.len() > ROBOTS_MAX {
            let more = figures::count((robots.len() - ROBOTS_MAX) as u64);
            html.line("p", &[class("muted small")], format_args!("And {more} more."));
        }
    });
}

fn ends(html: &mut Html, robot: &Robot, now: i64) {
    let Some(end) = robot.expires_s.and_then(|end| i64::try_from(end).ok()) else {
        return html.line("span", &[class("muted")], "never");
    };
    let (stamp, text) = (figures::stamp(end), figures::moment(end));
    let text = if end <= now { format!("ended {}", figures::age(end, now)) } else { text };
    html.line("time", &[attribute("datetime", stamp)], text);
}
