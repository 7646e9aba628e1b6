"""A framework inside a web server: each request is run as a task.

python examples/run_over_http.py 127.0.0.1:5050 8080
curl -d 'echo hello' http://127.0.0.1:8080/
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from mesoskit.driver import Framework, FrameworkInfo, TaskEnded, command_task


class Runner(Resource):
    """POST a shell command, and be told how it ended."""

    isLeaf = True

    def __init__(self, framework):
        super().__init__()
        self.framework = framework

    def render_POST(self, request):
        command = request.content.read(10_000).decode()
        Deferred.fromCoroutine(self.run(command, request)).addErrback(request.processingFailed)
        return NOT_DONE_YET

    async def run(self, command, request):
        async for offer in self.framework.offers():
            [task] = await self.framework.accept(offer, [command_task("posted", command)])
            break
        try:
            status = await task.terminal()
        except TaskEnded as error:
            status = error.status
        request.write(f"{task.state.name}: {status.message}\n".encode())
        request.finish()


async def main(reactor, master="127.0.0.1:5050", port="8080"):
    framework = Framework(reactor, master, FrameworkInfo(user="", name="web"))
    reactor.addSystemEventTrigger("before", "shutdown", framework.stopService)
    framework.startService()
    reactor.listenTCP(int(port), Site(Runner(framework)), interface="127.0.0.1")
    await framework.run()  # until Ctrl-C, or until the master ends the framework


react(main, sys.argv[1:])
