// Ends while the device still works on what it was given.
import { DeviceArray, device } from "../../lib/index.ts";

const array = DeviceArray.zeros([1 << 22], { device: device("cpu") });
for (let k = 0; k < 300; k++) array.addAssign(1);
console.log("queued");
