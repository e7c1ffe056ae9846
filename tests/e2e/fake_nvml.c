/* A library with NVML's functions for one accelerator that is warm, held back, and reports an error: for tests that
   load it as libnvidia-ml.so.1. Forms and numbers are those of nvml.h. */

#include <stdio.h>
#include <unistd.h>

typedef void *device_t;
typedef struct { unsigned int gpu, memory; } utilization_t;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_t;
typedef struct {
    device_t device;
    unsigned long long type, data;
    unsigned int gpu_instance, compute_instance;
} event_t;

enum { SUCCESS = 0, TIMEOUT = 10 };
static int own;
static int told;

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
int nvmlSystemGetDriverVersion(char *text, unsigned int size) { snprintf(text, size, "580.65.06"); return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 1; return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, device_t *device) { (void)index; *device = &own; return SUCCESS; }
int nvmlDeviceGetIndex(device_t device, unsigned int *index) { (void)device; *index = 0; return SUCCESS; }
int nvmlDeviceGetUUID(device_t device, char *text, unsigned int size) { (void)device; snprintf(text, size, "GPU-fake-0001"); return SUCCESS; }
int nvmlDeviceGetName(device_t device, char *text, unsigned int size) { (void)device; snprintf(text, size, "NVIDIA L4"); return SUCCESS; }
int nvmlDeviceGetUtilizationRates(device_t device, utilization_t *rates) { (void)device; rates->gpu = 97; rates->memory = 40; return SUCCESS; }
int nvmlDeviceGetMemoryInfo_v2(device_t device, memory_t *memory) {
    (void)device;
    memory->total = 24ULL << 30;
    memory->used = 18ULL << 30;
    memory->reserved = 0;
    memory->free = 6ULL << 30;
    return SUCCESS;
}
int nvmlDeviceGetTemperature(device_t device, int sensor, unsigned int *degrees) { (void)device; (void)sensor; *degrees = 86; return SUCCESS; }
int nvmlDeviceGetPowerUsage(device_t device, unsigned int *milliwatts) { (void)device; *milliwatts = 71500; return SUCCESS; }
int nvmlDeviceGetEnforcedPowerLimit(device_t device, unsigned int *milliwatts) { (void)device; *milliwatts = 72000; return SUCCESS; }
int nvmlDeviceGetClockInfo(device_t device, int clock, unsigned int *mhz) { (void)device; (void)clock; *mhz = 1020; return SUCCESS; }
int nvmlDeviceGetMaxClockInfo(device_t device, int clock, unsigned int *mhz) { (void)device; (void)clock; *mhz = 2040; return SUCCESS; }
int nvmlDeviceGetTotalEccErrors(device_t device, int error, int counter, unsigned long long *count) { (void)device; (void)error; (void)counter; *count = 0; return SUCCESS; }
int nvmlDeviceGetPcieReplayCounter(device_t device, unsigned int *count) { (void)device; *count = 2; return SUCCESS; }
int nvmlDeviceGetCurrentClocksThrottleReasons(device_t device, unsigned long long *bits) { (void)device; *bits = 0x40 | 0x1; return SUCCESS; }
int nvmlDeviceGetSupportedEventTypes(device_t device, unsigned long long *types) { (void)device; *types = 8; return SUCCESS; }
int nvmlDeviceRegisterEvents(device_t device, unsigned long long types, void *set) { (void)device; (void)types; (void)set; return SUCCESS; }
int nvmlEventSetCreate(void **set) { *set = &own; return SUCCESS; }
int nvmlEventSetFree(void *set) { (void)set; return SUCCESS; }
/* One error, and then silence. */
int nvmlEventSetWait_v2(void *set, event_t *event, unsigned int milliseconds) {
    (void)set;
    if (told) {
        usleep(milliseconds * 1000);
        return TIMEOUT;
    }
    told = 1;
    event->device = &own;
    event->type = 8;
    event->data = 79;
    return SUCCESS;
}
