//! Accelerators of this machine, by NVIDIA's library (NVML), which is loaded while the program runs. Without it, or
//! without a driver below it, there is nothing to tell and nothing wrong.
//!
//! Calls of a driver whose accelerator is lost can hang: they have a thread of their own, on which nobody waits.

use std::thread;
use std::time::Duration;

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::{Device, EventSet, Nvml};
use pilotage_lens::gpu::{GPUS_MAX, Measure, REASONS, Reading, TABLE, Xids};
use tokio::sync::watch;

use super::Look;

/// How long errors are waited for at a time; whoever looks on may be gone by then.
const STEP: Duration = Duration::from_secs(1);

/// NVML's code for an error that has none.
const UNKNOWN: u32 = 999;

/// Looks every so often until nobody looks on.
pub(super) fn start(tell: watch::Sender<Look>, every: Duration) {
    let started =
        thread::Builder::new().name("nvml".to_owned()).spawn(move || match Nvml::init() {
            Ok(nvml) => run(&nvml, &tell, every),
            Err(error) => tracing::debug!(%error, "no accelerators are told of: NVML is not here"),
        });
    if let Err(error) = started {
        tracing::warn!(%error, "no thread to look at accelerators");
    }
}

fn run(nvml: &Nvml, tell: &watch::Sender<Look>, every: Duration) {
    let mut xids = Xids::default();
    let events = subscribe(nvml, &mut xids);
    let steps = (every.as_secs() / STEP.as_secs()).max(1);
    while !tell.is_closed() {
        let readings = devices(nvml).filter_map(|device| reading(&device)).collect();
        tell.send_replace(Look { readings, xids: xids.clone() });
        for _ in 0..steps {
            wait(events.as_ref(), &mut xids);
            if tell.is_closed() {
                return;
            }
        }
    }
}

fn devices(nvml: &Nvml) -> impl Iterator<Item = Device<'_>> {
    let count = nvml.device_count().unwrap_or(0).min(u32::try_from(GPUS_MAX).unwrap_or(u32::MAX));
    (0..count).filter_map(|index| nvml.device_by_index(index).ok())
}

/// Has errors told of all accelerators that tell them.
fn subscribe<'nvml>(nvml: &'nvml Nvml, xids: &mut Xids) -> Option<EventSet<'nvml>> {
    let wanted = EventTypes::CRITICAL_XID_ERROR;
    let mut set = nvml.create_event_set().ok()?;
    for device in devices(nvml) {
        if !device.supported_event_types().is_ok_and(|types| types.contains(wanted)) {
            continue;
        }
        set = match device.register_events(wanted, set) {
            Ok(set) => set,
            Err(error) => {
                tracing::debug!(%error, "errors of accelerators are not told of");
                return None;
            }
        };
        if let (Some(uuid), Some(index)) = (Asked::uuid(&device), Asked::index(&device)) {
            xids.watches(&uuid, &index);
        }
    }
    Some(set)
}

/// Waits a step for an error, and counts it.
fn wait(events: Option<&EventSet<'_>>, xids: &mut Xids) {
    let step = u32::try_from(STEP.as_millis()).unwrap_or(u32::MAX);
    match events.map(|events| events.wait(step)) {
        Some(Ok(event)) => {
            let code = match event.event_data {
                Some(XidError::Value(code)) => u32::try_from(code).unwrap_or(u32::MAX),
                Some(XidError::Unknown) => UNKNOWN,
                None => return,
            };
            let device = &event.device;
            if let (Some(uuid), Some(index)) = (Asked::uuid(device), Asked::index(device)) {
                tracing::warn!(gpu = index, uuid, xid = code, "an accelerator reports an error");
                xids.happened(&uuid, &index, code);
            }
        }
        Some(Err(nvml_wrapper::error::NvmlError::Timeout)) => {}
        // What cannot be waited for must not be asked for without a pause.
        Some(Err(_)) | None => thread::sleep(STEP),
    }
}

/// What an accelerator can be asked.
trait Asked {
    fn uuid(&self) -> Option<String>;
    fn index(&self) -> Option<String>;
    fn model(&self) -> Option<String>;
    fn measure(&self, measure: Measure) -> Option<f64>;
    fn reasons(&self) -> Option<u64>;
}

/// One that does not even say which it is, is not told of.
fn reading(asked: &impl Asked) -> Option<Reading> {
    let known = REASONS.iter().fold(0, |all, (_, bit)| all | bit);
    let mut reading = Reading {
        gpu: asked.index()?,
        uuid: asked.uuid()?,
        model: asked.model().unwrap_or_default(),
        throttled: asked.reasons().map(|bits| bits & known),
        ..Reading::default()
    };
    for row in &TABLE {
        if let Some(value) = asked.measure(row.measure) {
            reading.set(row.measure, value);
        }
    }
    Some(reading)
}

impl Asked for Device<'_> {
    fn uuid(&self) -> Option<String> {
        Self::uuid(self).ok()
    }

    fn index(&self) -> Option<String> {
        Self::index(self).ok().map(|index| index.to_string())
    }

    fn model(&self) -> Option<String> {
        self.name().ok()
    }

    fn measure(&self, measure: Measure) -> Option<f64> {
        let milli = |value: u32| f64::from(value) / 1e3;
        let mega = |value: u32| f64::from(value) * 1e6;
        match measure {
            Measure::Utilisation => {
                self.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0)
            }
            Measure::MemoryUsed => self.memory_info().ok().map(|memory| memory.used as f64),
            Measure::MemoryTotal => self.memory_info().ok().map(|memory| memory.total as f64),
            Measure::Temperature => self.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
            Measure::Power => self.power_usage().ok().map(milli),
            Measure::PowerLimit => self.enforced_power_limit().ok().map(milli),
            Measure::Clock => self.clock_info(Clock::SM).ok().map(mega),
            Measure::ClockMax => self.max_clock_info(Clock::SM).ok().map(mega),
            Measure::EccUncorrected => {
                let count = self.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile);
                count.ok().map(|count| count as f64)
            }
            Measure::PcieReplays => self.pcie_replay_counter().ok().map(f64::from),
        }
    }

    fn reasons(&self) -> Option<u64> {
        self.current_throttle_reasons().ok().map(|reasons| reasons.bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that has no memory with error correction, and idles.
    struct Small(Option<&'static str>);

    impl Asked for Small {
        fn uuid(&self) -> Option<String> {
            self.0.map(str::to_owned)
        }

        fn index(&self) -> Option<String> {
            Some("1".to_owned())
        }

        fn model(&self) -> Option<String> {
            None
        }

        fn measure(&self, measure: Measure) -> Option<f64> {
            (measure != Measure::EccUncorrected).then_some(7.0)
        }

        fn reasons(&self) -> Option<u64> {
            Some(0x1 | 0x4)
        }
    }

    #[test]
    fn what_an_accelerator_does_not_say_stays_unknown() {
        let told = reading(&Small(Some("GPU-a"))).unwrap();
        assert_eq!(
            (told.gpu.as_str(), told.uuid.as_str(), told.throttled),
            ("1", "GPU-a", Some(4))
        );
        assert_eq!(told.value(Measure::Power), Some(7.0));
        assert_eq!(told.value(Measure::EccUncorrected), None);
        assert_eq!(told.last_xid, None, "errors are told by themselves");
        assert!(reading(&Small(None)).is_none());
    }
}
