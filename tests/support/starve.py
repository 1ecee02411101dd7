"""Fits in which allocation number k fails, for k = 1, 2, ... until none fails any more.

A program for test_memory.py: python starve.py fail_malloc.so library where entry...
fail_malloc.so must be preloaded, and PYTHONMALLOC=malloc set, so that every allocation, Python's
included, goes through malloc.  Allocations fail in the extension only (where = module) or in the
whole fit (where = fit), but never in the user's functions.  Prints the findings as JSON.
"""
import ctypes as ct
import gc
import json
import sys
import warnings

import entries
import guards

FUNCTIONS = ("batch_collect", "batch_compiled", "batch_difference", "batch_start",
             "batch_tell_model", "batch_tell_norm", "compiled", "solve")
OWN = ("accumulator", "machine", "pickles", "checks", "load")      # run entirely in the module
WIDTHS = (0, 100)               # one allocation fails, or it and the next hundred
ROUNDS = 3


class Malloc:
    """The preloaded library."""

    def __init__(self, path):
        library = ct.CDLL(path)
        self.starve, self.hunger = library.starve, library.hunger
        self.counted, self.blocks = library.counted, library.blocks
        self.starve.argtypes, self.starve.restype = [ct.c_long, ct.c_long], None
        self.counted.restype = self.blocks.restype = ct.c_long
        spare = ct.PyDLL(path).spare
        for name, arguments in guards.ruinous_functions():
            if spare(ct.cast(getattr(ct.pythonapi, name), ct.c_void_p), *map(ct.py_object, arguments)) < 0:
                raise RuntimeError(f"the allocations of {name} cannot be distinguished from others")

    def change(self, now):
        while True:
            try:
                return self.hunger(now)
            except MemoryError:                 # this allocation was one of those that fail
                pass

    def around(self, function, now):
        """`function`, in which allocations may fail (1) or may not (0)."""
        def call(*args, **keywords):
            before = self.change(now)
            try:
                return function(*args, **keywords)
            finally:
                self.change(before)
        return call


def starved_modules(malloc):
    """The places in the package that hold functions of the extension."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "leastsq":
            for function in FUNCTIONS:
                if hasattr(module, function):
                    setattr(module, function, malloc.around(getattr(module, function), 1))


def attempt(fit):
    try:
        return fit()
    except BaseException as error:
        return error.with_traceback(None)


# Python's cache of type attributes keeps references to the names looked up last.
forget_names = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache


def starve(malloc, fit):
    values = entries.values
    clean = values(fit())
    said = {"points": 0, "errors": 0, "others": [], "wrong": [], "next": [], "growth": []}
    for turn in range(ROUNDS):
        forget_names()
        before = malloc.blocks()
        for width in WIDTHS:
            k, number = 0, 1
            while k < number:
                k += 1
                malloc.starve(k, k + width)
                outcome = attempt(fit)
                number = malloc.counted()
                malloc.starve(0, -1)
                said["points"] += 1
                if isinstance(outcome, MemoryError):
                    said["errors"] += 1
                elif isinstance(outcome, BaseException):
                    said["others"].append(repr(outcome))
                elif values(outcome) != clean:
                    said["wrong"].append(k)
                outcome = None
                if turn == 0 and values(fit()) != clean:
                    said["next"].append(k)
        gc.collect()
        forget_names()
        if turn > 0:                            # the first turn fills caches
            said["growth"].append(malloc.blocks() - before)
    return said


def main(shim, library, where, *names):
    malloc = Malloc(shim)
    if where == "module":
        starved_modules(malloc)
    compiled = entries.compiled_entries(library)
    said = {}
    for name in names:
        entry = (entries.ENTRIES | entries.IN_PYTHON | entries.REFUSED).get(name)
        fit = compiled.get(name) or (
            lambda: entry(lambda function, _: malloc.around(function, 0)))      # noqa: B023
        if where == "fit" or name in OWN:
            fit = malloc.around(fit, 1)
        said[name] = starve(malloc, fit)
    print(json.dumps(said))


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(*sys.argv[1:])
