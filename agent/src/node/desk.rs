//! Who answers what the agent is asked while it runs: `docs/CONFIG.md` lists the pages.

use std::sync::Arc;

use serde_json::{Value, json};
use wirespan_telemetry::{Answer, Answered, Handler, Request, Source as _};

use super::control::Control;
use super::flows::Flows;
use super::recording::Wanted;
use super::status::Status;

const JSON: &str = "application/json";
const BUSY: &str = "there is a recording already";

/// Answers.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) control: Arc<Control>,
    pub(super) status: Arc<Status>,
    pub(super) flows: Arc<Flows>,
}

impl Handler for Desk {
    fn answer(&self, request: Request) -> Answer {
        match (&*request.method, &*request.path) {
            ("GET" | "HEAD", path) => self.page(path, &request.query),
            ("PUT", "/config/dynamic") => self.change(&request),
            ("POST", "/record") => self.record(&request),
            (_, "/config/dynamic") => Answer::line(405, "only PUT"),
            (_, "/record") => Answer::line(405, "only POST"),
            _ => Answer::line(405, "only GET, PUT /config/dynamic, and POST /record"),
        }
    }
}

impl Desk {
    fn page(&self, path: &str, query: &str) -> Answer {
        match path {
            "/healthz" => Answer::line(200, "ok"),
            "/readyz" => match self.status.ready() {
                Ok(()) => Answer::line(200, "ok"),
                Err(why) => Answer::line(503, why),
            },
            "/status" => object(200, &self.told()),
            "/config" => object(200, &self.control.told()),
            "/connections" => match self.control.connections() {
                Ok(connections) => {
                    let lines = connections.iter().map(|line| format!("{line}\n"));
                    Answer::new(200, "application/jsonl", lines.collect::<String>())
                }
                Err(fault) => Answer::line(503, &fault.to_string()),
            },
            "/top" => match self.control.picture() {
                Ok(picture) => object(200, &json!(picture)),
                Err(fault) => Answer::line(503, &fault.to_string()),
            },
            "/flows" if query.split('&').any(|word| word == "follow=1") => self.follow(),
            "/flows" => Answer::line(400, "give ?follow=1: exchanges are told as they happen"),
            _ => Answer::line(
                404,
                "/healthz /readyz /metrics /edges /status /config /connections /flows?follow=1; \
                 PUT /config/dynamic, POST /record",
            ),
        }
    }

    fn follow(&self) -> Answer {
        match self.flows.follow() {
            Some(flow) => Answer {
                status: 200,
                content: "application/jsonl",
                body: Answered::Flowing(flow),
            },
            None => Answer::line(503, "too many follow already"),
        }
    }

    fn change(&self, request: &Request) -> Answer {
        let patch = match serde_json::from_slice::<Value>(&request.body) {
            Ok(patch) => patch,
            Err(wrong) => return error(400, &wrong.to_string()),
        };
        match self.control.patch(&patch, &request.who) {
            Ok(()) => object(200, &self.control.told()),
            Err(fault) => error(400, &fault.to_string()),
        }
    }

    fn record(&self, request: &Request) -> Answer {
        let wanted = match Wanted::read(&request.body) {
            Ok(wanted) => wanted,
            Err(wrong) => return error(400, &wrong),
        };
        if wanted.keep {
            return self.keep(wanted, &request.who);
        }
        match self.control.record(wanted, &request.who) {
            Ok(Some(flow)) => Answer {
                status: 200,
                content: "application/x-pcapng",
                body: Answered::Flowing(flow),
            },
            Ok(None) => error(409, BUSY),
            Err(fault) => error(503, &fault.to_string()),
        }
    }

    /// Records into the folder that the configuration names.
    fn keep(&self, mut wanted: Wanted, who: &str) -> Answer {
        let Some(shelf) = self.control.shelf() else {
            let message = "admin.recordings names no folder: nothing can be kept";
            return error(403, message);
        };
        let place = match shelf.place(super::wall_clock()) {
            Ok(place) => place,
            Err(message) => return error(507, &message),
        };
        wanted.bytes = wanted.bytes.min(place.room);
        let flow = match self.control.record(wanted, who) {
            Ok(Some(flow)) => flow,
            refused => {
                place.give_back();
                return match refused {
                    Err(fault) => error(503, &fault.to_string()),
                    Ok(_) => error(409, BUSY),
                };
            }
        };
        let told = json!({
            "file": place.path,
            "seconds": wanted.time().as_secs_f64(),
            "bytes": wanted.bytes,
        });
        match place.fill(flow, self.control.log().clone()) {
            Ok(()) => object(202, &told),
            Err(fault) => error(503, &fault.to_string()),
        }
    }

    /// How the agent is doing: `wirespan.status/1`.
    fn told(&self) -> Value {
        let collection = self.status.collect();
        let state = self.control.state();
        let figures = collection.readings.iter().map(|reading| {
            let of = |(attributes, value): &(Vec<(&str, String)>, f64)| {
                let names = attributes.iter().map(|(_, name)| name.as_str());
                (names.collect::<Vec<_>>().join(" "), json!(value))
            };
            let value = match reading.points.as_slice() {
                [(attributes, value)] if attributes.is_empty() => json!(value),
                points => Value::Object(points.iter().map(of).collect()),
            };
            (reading.name.to_owned(), value)
        });
        json!({
            "schema": "wirespan.status/1",
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "hooks": self.status.hooks(),
            "seconds": collection.time.since(collection.began) / 1_000_000_000,
            "ready": self.status.ready().is_ok(),
            "why_not_ready": self.status.ready().err(),
            "config": {
                "file": self.control.file(),
                "seconds": collection.time.since(state.since) / 1_000_000_000,
                "applied": state.applied,
                "refused": state.refused,
                "fault": state.fault,
                "at_next_start": state.at_next_start,
            },
            "kubernetes": self.status.kubernetes(),
            "figures": Value::Object(figures.collect()),
        })
    }
}

fn error(status: u16, message: &str) -> Answer {
    object(status, &json!({ "error": message }))
}

fn object(status: u16, value: &Value) -> Answer {
    Answer::new(status, JSON, format!("{value}\n"))
}
