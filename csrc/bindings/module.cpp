// Table of contents of the extension module fastnce._core.
#include <pybind11/pybind11.h>

#include "bindings/arrays/without_gil.h"
#include "bindings/ops/register.h"
#include "fastnce/config.h"
#include "fastnce/error.h"
#include "fastnce/interrupt.h"

PYBIND11_MODULE(_core_contents, module) {
  namespace py = pybind11;
  py::register_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const fastnce::InvalidType& error) {
      PyErr_SetString(PyExc_TypeError, error.what());
    } catch (const fastnce::InvalidValue& error) {
      PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const fastnce::DeviceError& error) {
      PyErr_SetString(PyExc_RuntimeError, error.what());
    } catch (const fastnce::Interrupted&) {
      fastnce::bindings::restore_interrupt();
    }
  });
  fastnce::bindings::remember_main_thread();
  fastnce::isa_in_use();  // a wrong FASTNCE_ISA is reported at import, not at the first loss
  fastnce::bindings::register_config(module);
  fastnce::bindings::register_distribution(module);
  fastnce::bindings::register_sampler(module);
  fastnce::bindings::register_loss(module);
  fastnce::bindings::register_optimizer(module);
  fastnce::bindings::register_evaluate(module);
  fastnce::bindings::register_skip_gram(module);
  fastnce::bindings::register_text(module);
  fastnce::bindings::register_cuda(module);
  fastnce::bindings::register_jax(module);
}

// What Python calls first. pybind11 takes Python's lock by PyGILState_Ensure, which knows the main interpreter alone:
// in a sub-interpreter its own set-up would wait for ever, so this comes before it.
extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
  if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
    PyErr_SetString(
        PyExc_ImportError,
        "fastnce was imported in a sub-interpreter: expected the main interpreter; use threads or processes");
    return nullptr;
  }
  return PyInit__core_contents();
}
