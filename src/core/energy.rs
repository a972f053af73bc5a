//! The energy that a device reports to have consumed.
//!
//! NVIDIA's GPUs since Volta count it from the start of their driver (NVML's `nvmlDeviceGetTotalEnergyConsumption`),
//! which is more exact than to ask for the power now and then; processors with RAPL count it too, where the system lets
//! others than its administrator read it. Both count all that runs on the device, so stages that share one also record
//! each other's part.

use nvml_wrapper::Nvml;
use std::path::{Path, PathBuf};

/// The directory in which Linux exposes the counters of processors.
const POWERCAP: &str = "/sys/class/powercap";

/// A meter of the energy that one device consumes from its creation on.
#[derive(Debug)]
pub struct EnergyMeter {
    source: Source,
    joules: f64,
}

#[derive(Debug)]
enum Source {
    Gpu { nvml: Box<Nvml>, index: u32, last_mj: u64 },
    Processor(Vec<Package>),
}

/// The counter of one processor package.
#[derive(Debug)]
struct Package {
    path: PathBuf,
    /// The value in microjoules after which the counter wraps around to 0.
    max_uj: u64,
    last_uj: u64,
}

impl EnergyMeter {
    /// Creates the meter of the GPU with CUDA's index `index`. Returns `None` where the GPU does not report its energy,
    /// as partitions of GPUs do not.
    pub fn of_gpu(index: usize) -> Option<Self> {
        let nvml = Nvml::init().ok()?;
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let count = nvml.device_count().ok()?;
        let uuids: Vec<String> =
            (0..count).map(|gpu| nvml.device_by_index(gpu)?.uuid()).collect::<Result<_, _>>().ok()?;
        let index = u32::try_from(installed(index, visible.as_deref(), &uuids)?).ok()?;
        let last_mj = nvml.device_by_index(index).ok()?.total_energy_consumption().ok()?;
        Some(Self { source: Source::Gpu { nvml: Box::new(nvml), index, last_mj }, joules: 0.0 })
    }

    /// Creates the meter of this machine's processors. Returns `None` where they do not report their energy.
    pub fn of_processors() -> Option<Self> {
        Self::of_packages(Path::new(POWERCAP))
    }

    fn of_packages(root: &Path) -> Option<Self> {
        let mut packages = Vec::new();
        for entry in std::fs::read_dir(root).ok()?.flatten() {
            let zone = entry.path();
            // Zones of other names are the cores and the memory inside a package, and the whole board.
            if text(&zone.join("name")).is_some_and(|name| name.starts_with("package-")) {
                let path = zone.join("energy_uj");
                let last_uj = number(&path)?;
                packages.push(Package { path, max_uj: number(&zone.join("max_energy_range_uj"))?, last_uj });
            }
        }
        (!packages.is_empty()).then_some(Self { source: Source::Processor(packages), joules: 0.0 })
    }

    /// Joules since the meter was made; absent when the device does not answer any more. A processor's counter must be
    /// asked more often than it wraps around, which takes some minutes.
    pub fn joules(&mut self) -> Option<f64> {
        match &mut self.source {
            Source::Gpu { nvml, index, last_mj } => {
                let now = nvml.device_by_index(*index).ok()?.total_energy_consumption().ok()?;
                self.joules += now.saturating_sub(*last_mj) as f64 / 1e3;
                *last_mj = now;
            }
            Source::Processor(packages) => {
                for package in packages {
                    let now = number(&package.path)?;
                    let began_anew = if now < package.last_uj { package.max_uj } else { 0 };
                    self.joules += (now + began_anew - package.last_uj) as f64 / 1e6;
                    package.last_uj = now;
                }
            }
        }
        Some(self.joules)
    }
}

/// Returns the index, in the order of the bus, of the installed GPU that has CUDA's index `index`.
fn installed(index: usize, visible: Option<&str>, uuids: &[String]) -> Option<usize> {
    let Some(visible) = visible else { return (index < uuids.len()).then_some(index) };
    let name = visible.split(',').map(str::trim).nth(index)?;
    if name.starts_with("GPU-") {
        return uuids.iter().position(|uuid| uuid.starts_with(name));
    }
    name.parse().ok().filter(|&index| index < uuids.len())
}

fn text(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_the_one_that_the_user_left_visible() {
        let uuids = ["GPU-aa11".to_owned(), "GPU-bb22".to_owned()];
        for (index, visible, expected) in [
            (1, None, Some(1)),
            (2, None, None),
            (0, Some("1"), Some(1)),
            (1, Some("1, 0"), Some(0)),
            (0, Some("GPU-bb"), Some(1)),
            (0, Some("GPU-cc"), None),
            (0, Some("MIG-aa11"), None),
            (0, Some("7"), None),
            (0, Some(""), None),
        ] {
            assert_eq!(installed(index, visible, &uuids), expected, "{index} of {visible:?}");
        }
    }

    /// Creates a zone of the kernel's powercap tree.
    fn zone(root: &Path, zone: &str, name: &str, energy_uj: u64) {
        let zone = root.join(zone);
        std::fs::create_dir_all(&zone).unwrap();
        for (file, text) in [
            ("name", name.to_owned()),
            ("energy_uj", energy_uj.to_string()),
            ("max_energy_range_uj", "10000000".to_owned()),
        ] {
            std::fs::write(zone.join(file), text + "\n").unwrap();
        }
    }

    #[test]
    fn packages_are_summed_and_a_counter_may_begin_anew() {
        let tree = tempfile::tempdir().unwrap();
        assert!(EnergyMeter::of_packages(tree.path()).is_none(), "nobody tells");
        zone(tree.path(), "intel-rapl:0", "package-0", 9_000_000);
        zone(tree.path(), "intel-rapl:0:0", "core", 5);
        zone(tree.path(), "intel-rapl:1", "package-1", 1_000_000);
        zone(tree.path(), "intel-rapl:2", "psys", 7);
        let mut meter = EnergyMeter::of_packages(tree.path()).unwrap();
        assert_eq!(meter.joules(), Some(0.0));
        zone(tree.path(), "intel-rapl:0", "package-0", 500_000);
        zone(tree.path(), "intel-rapl:1", "package-1", 3_000_000);
        zone(tree.path(), "intel-rapl:0:0", "core", 5_000_000);
        assert_eq!(meter.joules(), Some(3.5), "1.5 J to the end of the counter and after it, and 2 J");
        std::fs::remove_file(tree.path().join("intel-rapl:1/energy_uj")).unwrap();
        assert_eq!(meter.joules(), None, "what is not known is not the rest");
    }
}
