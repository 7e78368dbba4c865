//! `update`: other limits for a container that exists.

use std::io::Read;

use corten_runtime::spec::{BlockIo, Cpu, Memory, Pids, Resources};

use crate::Global;
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::limits::bytes;
use crate::store::{Container, Status};

pub fn update(global: &Global, arguments: &Arguments) -> Outcome<u8> {
    for name in ["l3-cache-schema", "mem-bw-schema"] {
        if arguments.value(name).is_some_and(|value| !value.is_empty()) {
            return Err(Failure::new(format!(
                "--{name} is not supported: this runtime does not manage Intel RDT"
            )));
        }
    }
    if arguments.value("kernel-memory").is_some() {
        global.journal.warn("--kernel-memory has no effect: kernels no longer have this limit");
    }
    let container = Container::open(global, arguments.id())?;
    if container.status() == Status::Stopped {
        return Err(Failure::new("container not running"));
    }
    let resources = match arguments.value("resources") {
        Some(file) => read(file)?,
        None => from_flags(arguments)?,
    };
    let warnings = container.cgroup()?.apply(&resources)?;
    warnings.iter().for_each(|w| global.journal.warn(&w.to_string()));
    Ok(0)
}

fn read(file: &str) -> Outcome<Resources> {
    let mut text = Vec::new();
    let read = if file == "-" {
        std::io::stdin().read_to_end(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut f| f.read_to_end(&mut text))
    };
    read.map_err(Failure::during(file))?;
    serde_json::from_slice(&text).map_err(Failure::during(file))
}

fn from_flags(arguments: &Arguments) -> Outcome<Resources> {
    let size = |name: &str| arguments.value(name).map(|text| bytes(name, text)).transpose();
    let text = |name: &str| arguments.value(name).filter(|t| !t.is_empty()).map(str::to_owned);
    let memory = Memory {
        limit: size("memory")?,
        reservation: size("memory-reservation")?,
        swap: size("memory-swap")?,
        kernel_tcp: size("kernel-memory-tcp")?,
        ..Memory::default()
    };
    let cpu = Cpu {
        shares: arguments.number("cpu-share")?,
        quota: arguments.number("cpu-quota")?,
        burst: arguments.number("cpu-burst")?,
        period: arguments.number("cpu-period")?,
        realtime_runtime: arguments.number("cpu-rt-runtime")?,
        realtime_period: arguments.number("cpu-rt-period")?,
        cpus: text("cpuset-cpus"),
        mems: text("cpuset-mems"),
        idle: arguments.number("cpu-idle")?,
    };
    let block = BlockIo { weight: arguments.number("blkio-weight")?, ..BlockIo::default() };
    Ok(Resources {
        memory: Some(memory).filter(|m| *m != Memory::default()),
        cpu: Some(cpu).filter(|c| *c != Cpu::default()),
        block_io: Some(block).filter(|b| *b != BlockIo::default()),
        pids: arguments.number("pids-limit")?.map(|limit| Pids { limit }),
        ..Resources::default()
    })
}
