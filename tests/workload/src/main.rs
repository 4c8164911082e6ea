//! Moves bytes between sockets in every way that programs do, and prints the truth of each exchange.

mod calls;
mod end;
mod message;
mod process;
mod scenarios;
mod stage;
mod uring;

use std::fs;
use std::io;
use std::process::ExitCode;

use serde_json::Value;
use wirespan_workload::{Truth, compare};

use crate::end::{End, Way};
use crate::process::{Child, inherited};
use crate::scenarios::Scenario;
use crate::stage::{Stage, answer};

const USAGE: &str = "\
Usage: workload list
       workload run [--requests N] [--full] SCENARIO... | all
       workload compare kprobe|fentry|tracepoint TRUTH RECORDS

  run      plays scenarios, each a server and a client on the loopback, and prints what the client
           knows of each exchange as a line of JSON. `held` and `held-reading` print `ready` in
           their middle and wait for a line on standard input; `all` leaves them out
           --requests N  exchanges of a conversation [default: 6]
           --full        bulk and churn in full size: 10,000 connections, 200 MB
  compare  prints where records (-o jsonl) are not what the truth says; exits with 1 if anywhere
";

/// The result of anything that can go wrong, with what to tell.
type Outcome = Result<ExitCode, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match arguments.as_slice() {
        ["list"] => list(),
        ["run", options @ ..] => run(options),
        ["compare", hooks, truth, records] => judge(hooks, truth, records),
        // What the scenario `executed` becomes.
        ["answer", fd] => answer_on(fd),
        _ => Err(USAGE.into()),
    };
    ended.unwrap_or_else(|message| {
        eprintln!("workload: {message}");
        ExitCode::from(2)
    })
}

fn list() -> Outcome {
    for Scenario { name, about, .. } in scenarios::all() {
        println!("{name:16} {about}");
    }
    Ok(ExitCode::SUCCESS)
}

fn run(options: &[&str]) -> Outcome {
    let (mut requests, mut full, mut wanted) = (6, false, Vec::new());
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match *option {
            "--full" => full = true,
            "--requests" => {
                let number = options.next().and_then(|number| number.parse().ok());
                requests = number.ok_or("--requests takes a number")?;
            }
            name => wanted.push(name),
        }
    }
    let all = scenarios::all();
    let known = |name: &&str| *name == "all" || all.iter().any(|one| one.name == *name);
    if let Some(unknown) = wanted.iter().find(|name| !known(name)) {
        return Err(format!(
            "no scenario is called {unknown}; `workload list` names them"
        ));
    }
    let everything = wanted.contains(&"all");
    let chosen = |one: &&Scenario| wanted.contains(&one.name) || (everything && one.runs_alone());
    let mut failed = false;
    for scenario in all.iter().filter(chosen) {
        // In a process of its own: what one did to itself is not there for the next.
        let mut stage = Stage::new(scenario.name, requests, full);
        let played = Child::start("wl-client", || scenario.play(&mut stage)).and_then(Child::join);
        if let Err(error) = played {
            eprintln!("workload: {}: {error}", scenario.name);
            failed = true;
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}

fn judge(hooks: &str, truth: &str, records: &str) -> Outcome {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let truth = read(truth)?
        .lines()
        .map(Truth::from_json)
        .collect::<Result<Vec<_>, _>>();
    let truth = truth.map_err(|error| error.to_string())?;
    let records = read(records)?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<Value>, _>>();
    let records = records.map_err(|error| format!("the records: {error}"))?;
    let differences = compare(&truth, &records, hooks.parse()?);
    for difference in &differences {
        println!("{difference}");
    }
    println!(
        "{} exchanges, {} differences",
        truth.len(),
        differences.len()
    );
    Ok(ExitCode::from(u8::from(!differences.is_empty())))
}

fn answer_on(fd: &str) -> Outcome {
    let fd = fd.parse().map_err(|_| "answer takes a descriptor")?;
    let answered = answer(&mut End::new(inherited(fd), Way::PLAIN));
    answered.map_err(|error: io::Error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}
