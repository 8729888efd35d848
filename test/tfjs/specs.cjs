// What esbuild bundles: tfjs-core's own specs, over the backend that suite.ts puts in. All of TensorFlow.js must be one copy here,
// so raysum/tfjs stays outside and is handed this one.
const tf = require("@tensorflow/tfjs-core");
require("@tensorflow/tfjs-backend-cpu");
require("@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js");
require("@tensorflow/tfjs-core/dist/register_all_gradients.js");
const { setTestEnvs } = require("@tensorflow/tfjs-core/dist/jasmine_util.js");

const backendName = globalThis.raysumSuite(tf);
setTestEnvs([{ name: backendName, backendName, isDataSync: true }]);
require("@tensorflow/tfjs-core/dist/tests.js");
